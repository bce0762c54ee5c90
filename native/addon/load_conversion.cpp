#include "addon/load_conversion.h"

#include <string>
#include <utility>

#include "addon/js_object.h"
#include "addon/spec_conversion.h"
#include "base/error.h"
#include "runtime/step_records.h"

namespace autoglm::addon {
namespace {

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;
constexpr int64_t kMaxRows = 1024;
constexpr int64_t kMaxStepTokens = 1 << 16;
constexpr int64_t kMaxPages = int64_t{1} << 30;
constexpr size_t kMaxSlices = 4;

ModelFile to_model_file(const JsObject& file) {
  return {.path = file.text("path"),
          .size = file.integer("size", 0, kMaxSafeInteger),
          .mtime_ms = file.number("mtimeMs")};
}

WeightSource to_weight_source(const JsObject& source, int64_t num_files) {
  WeightSource result;
  result.format = static_cast<StoredFormat>(source.choice("format", {
#define AUTOGLM_STORED_FORMAT(name, ...) #name,
#include "base/formats.def"
#undef AUTOGLM_STORED_FORMAT
                                                                    }));
  result.shape = source.integers("shape", 1, kMaxSafeInteger);
  for (const JsObject& slice : source.objects("slices")) {
    result.slices.push_back({.file = static_cast<int32_t>(slice.integer("file", 0, num_files - 1)),
                             .offset = slice.integer("offset", 0, kMaxSafeInteger),
                             .num_bytes = slice.integer("byteLength", 0, kMaxSafeInteger)});
  }
  if (result.slices.empty() || result.slices.size() > kMaxSlices) {
    throw Error(ErrorCode::invalid_parameter, "expected " + source.path_of("slices") +
                                                  " to hold 1..4 slices, got " +
                                                  std::to_string(result.slices.size()));
  }
  if (!source.is_null("rowOrder")) {
    const auto order = int32_words(source.value("rowOrder"), source.path_of("rowOrder"));
    result.row_order.assign(order.begin(), order.end());
  }
  result.is_transposed = source.boolean("isTransposed");
  return result;
}

WeightMap to_weight_map(const JsObject& request, int64_t num_files) {
  WeightMap weights;
  for (const JsObject& tensor : request.objects("tensors")) {
    std::string role = tensor.text("role");
    WeightSource source = to_weight_source(tensor.object("source"), num_files);
    const auto [at, is_new] = weights.emplace(std::move(role), std::move(source));
    if (!is_new) throw Error(ErrorCode::invalid_parameter, "role " + at->first + " is given twice");
  }
  return weights;
}

// The words of element `index` of a pair of Int32Arrays.
std::span<int32_t> pair_words(const JsObject& request, const char* name, uint32_t index, int64_t min_words) {
  const std::string path = request.path_of(name) + "[" + std::to_string(index) + "]";
  const auto words = int32_words(request.object(name).value(std::to_string(index).c_str()), path);
  if (static_cast<int64_t>(words.size()) < min_words) {
    throw Error(ErrorCode::invalid_parameter, "expected " + path + " to hold at least " +
                                                  std::to_string(min_words) + " words, got " +
                                                  std::to_string(words.size()));
  }
  return words;
}

}  // namespace

LoadRequest to_load_request(Napi::Value value) {
  const JsObject request(value, "request");
  LoadRequest result;
  result.spec = to_decoder_spec(request.object("spec"));
  for (const JsObject& file : request.objects("files")) result.files.push_back(to_model_file(file));
  result.weights = to_weight_map(request, static_cast<int64_t>(result.files.size()));
  result.is_exact = request.choice("precision", {"fast", "exact"}) == 1;
  result.kv_dtype = static_cast<KvDtype>(request.choice("kvDtype", {
#define AUTOGLM_KV_DTYPE(name, bytes) #name,
#include "base/formats.def"
#undef AUTOGLM_KV_DTYPE
                                                                   }));
  result.num_pages = request.integer("numPages", 1, kMaxPages);
  result.max_rows = request.integer("maxRows", 1, kMaxRows);
  result.max_step_tokens = request.integer("maxStepTokens", abi::Limits::pageSize, kMaxStepTokens);
  const int64_t result_words = abi::kResultHeaderWords + result.max_rows * abi::Limits::resultRowWords;
  for (uint32_t slot = 0; slot < 2; ++slot) {
    result.plans[slot] = pair_words(request, "plans", slot, abi::kPlanHeaderWords);
    result.results[slot] = pair_words(request, "results", slot, result_words);
  }
  const auto cancel = int32_words(request.value("cancel"), request.path_of("cancel"));
  if (cancel.empty())
    throw Error(ErrorCode::invalid_parameter, "expected request.cancel to hold one word, got none");
  result.cancel = cancel.data();
  return result;
}

}  // namespace autoglm::addon
