#include "addon/load_conversion.h"

#include <charconv>
#include <cstring>
#include <string>
#include <utility>

#include "addon/device_conversion.h"
#include "addon/js_object.h"
#include "addon/spec_conversion.h"
#include "base/error.h"
#include "runtime/step_records.h"

namespace autoglm::addon {
namespace {

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;
constexpr int64_t kMaxDim = int64_t{1} << 31;  // of a matrix: products with the size of an element stay small
constexpr int64_t kMaxRows = 1024;
constexpr int64_t kMaxStepTokens = 1 << 16;
constexpr int64_t kMaxPages = int64_t{1} << 30;
constexpr size_t kMaxSlices = 4;
constexpr size_t kHashDigits = 16;

ModelFile to_model_file(const JsObject& file) {
  return {.path = file.text("path"),
          .size = file.integer("size", 0, kMaxSafeInteger),
          .mtime_ms = file.number("mtimeMs")};
}

FileSlice to_file_slice(const JsObject& slice, int64_t num_files) {
  return {.file = static_cast<int32_t>(slice.integer("file", 0, num_files - 1)),
          .offset = slice.integer("offset", 0, kMaxSafeInteger),
          .num_bytes = slice.integer("byteLength", 0, kMaxSafeInteger)};
}

Component to_component(const JsObject& component, int64_t num_files) {
  const std::vector<int64_t> shape = component.integers("shape", 1, kMaxDim);
  if (shape.size() != 2) {
    throw Error(ErrorCode::invalid_parameter, "expected " + component.path_of("shape") +
                                                  " to hold 2 dims, got " + std::to_string(shape.size()));
  }
  return {.slice = to_file_slice(component, num_files),
          .dtype = static_cast<ComponentDtype>(component.choice("dtype",
                                                                {
#define AUTOGLM_COMPONENT_DTYPE(name, bytes) #name,
#include "base/formats.def"
#undef AUTOGLM_COMPONENT_DTYPE
                                                                })),
          .shape = {shape[0], shape[1]}};
}

std::optional<Component> to_optional_component(const JsObject& parent, const char* name, int64_t num_files) {
  if (parent.is_null(name)) return std::nullopt;
  return to_component(parent.object(name), num_files);
}

Quantization to_quantization(const JsObject& object, int64_t num_files) {
  return {.num_stored_rows = object.integer("storedRows", 1, kMaxDim),
          .first_row = object.integer("firstRow", 0, kMaxDim),
          .group_rows = object.integer("groupRows", 1, kMaxDim),
          .group_cols = object.integer("groupColumns", 1, kMaxDim),
          .is_symmetric = object.boolean("isSymmetric"),
          .has_ordered_groups = object.boolean("hasOrderedGroups"),
          .has_zeros_less_one = object.boolean("hasZerosLessOne"),
          .scales = to_component(object.object("scales"), num_files),
          .zeros = to_optional_component(object, "zeros", num_files),
          .group_index = to_optional_component(object, "groupIndex", num_files)};
}

WeightSource to_weight_source(const JsObject& source, int64_t num_files) {
  WeightSource result;
  result.format = static_cast<StoredFormat>(source.choice("format", {
#define AUTOGLM_STORED_FORMAT(name, ...) #name,
#define AUTOGLM_CODE_FORMAT(name, ...) #name,
#include "base/formats.def"
#undef AUTOGLM_STORED_FORMAT
#undef AUTOGLM_CODE_FORMAT
                                                                    }));
  result.shape = source.integers("shape", 1, kMaxSafeInteger);
  for (const JsObject& slice : source.objects("slices")) {
    result.slices.push_back(to_file_slice(slice, num_files));
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
  if (source.has("quantization")) {
    result.quantization = to_quantization(source.object("quantization"), num_files);
  }
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

uint64_t to_hash(const JsObject& object, const char* name) {
  const std::string text = object.text(name);
  uint64_t hash = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), hash, 16);
  if (error != std::errc() || text.size() != kHashDigits || end != text.data() + text.size()) {
    throw Error(ErrorCode::invalid_parameter,
                "expected " + object.path_of(name) + " to be 16 hexadecimal digits");
  }
  return hash;
}

PackedFile to_packed_file(const JsObject& file) {
  PackedFile result = {.path = file.text("path"),
                       .offset = file.integer("offset", 0, kMaxSafeInteger),
                       .num_bytes = file.integer("byteLength", 0, kMaxSafeInteger),
                       .section_bytes = file.integer("sectionBytes", 1, kMaxSafeInteger),
                       .checksums = {},
                       .sample = to_hash(file, "sample"),
                       .is_shared = file.boolean("isShared")};
  const auto words = int32_words(file.value("checksums"), file.path_of("checksums"));
  result.checksums.resize(words.size() / 2);
  if (!result.checksums.empty())
    std::memcpy(result.checksums.data(), words.data(), result.checksums.size() * sizeof(uint64_t));
  return result;
}

const int32_t* one_word(const JsObject& request, const char* name) {
  const auto words = int32_words(request.value(name), request.path_of(name));
  if (words.empty())
    throw Error(ErrorCode::invalid_parameter,
                "expected " + request.path_of(name) + " to hold one word, got none");
  return words.data();
}

// The words of element `index` of an array of Int32Arrays, one for each slot.
std::span<int32_t> slot_words(const JsObject& request, const char* name, uint32_t index, int64_t min_words) {
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
  if (!request.is_null("packed")) result.packed = to_packed_file(request.object("packed"));
  result.is_exact = request.choice("precision", {"fast", "exact"}) == 1;
  result.kv_dtype = static_cast<KvDtype>(request.choice("kvDtype", {
#define AUTOGLM_KV_DTYPE(name, ...) #name,
#include "base/formats.def"
#undef AUTOGLM_KV_DTYPE
                                                                   }));
  result.device = to_device_choice(request, static_cast<int64_t>(result.spec.layers.size()));
  result.num_pages = request.integer("numPages", 1, kMaxPages);
  result.max_rows = request.integer("maxRows", 1, kMaxRows);
  result.max_step_tokens = request.integer("maxStepTokens", abi::Limits::pageSize, kMaxStepTokens);
  const int64_t result_words =
      abi::kResultHeaderWords + (result.max_rows + abi::Limits::maxStepDrafts) * abi::Limits::resultRowWords;
  for (uint32_t slot = 0; slot < abi::Limits::queueDepth; ++slot) {
    result.plans[slot] = slot_words(request, "plans", slot, abi::kPlanHeaderWords);
    result.results[slot] = slot_words(request, "results", slot, result_words);
  }
  result.cancel = cancel_word(value);
  return result;
}

AdapterRequest to_adapter_request(Napi::Value value) {
  const JsObject request(value, "request");
  AdapterRequest result;
  for (const JsObject& file : request.objects("files")) result.files.push_back(to_model_file(file));
  const auto num_files = static_cast<int64_t>(result.files.size());
  for (const JsObject& part : request.objects("parts")) {
    result.parts.push_back(
        {.layer = part.integer("layer", 0, kMaxSafeInteger),
         .product = static_cast<Product>(part.choice("product", {"qkv", "o", "gateUp", "down"})),
         .first_col = part.integer("firstColumn", 0, kMaxSafeInteger),
         .scale = static_cast<float>(part.number("scale")),
         .a = to_weight_source(part.object("a"), num_files),
         .b = to_weight_source(part.object("b"), num_files)});
  }
  return result;
}

SaveRequest to_save_request(Napi::Value value) {
  const JsObject request(value, "request");
  return {.path = request.text("path"),
          .offset = request.integer("offset", 0, kMaxSafeInteger),
          .section_bytes = request.integer("sectionBytes", 1, kMaxSafeInteger),
          .pace = one_word(request, "pace")};
}

Napi::Value checksum_words(Napi::Env env, std::span<const uint64_t> checksums) {
  auto words = Napi::Int32Array::New(env, checksums.size() * 2);
  if (!checksums.empty()) std::memcpy(words.Data(), checksums.data(), checksums.size_bytes());
  return words;
}

std::string hash_text(uint64_t hash) {
  std::string text(kHashDigits, '0');
  for (size_t i = kHashDigits; i > 0; --i, hash >>= 4) text[i - 1] = "0123456789abcdef"[hash & 15];
  return text;
}

const int32_t* cancel_word(Napi::Value value) { return one_word(JsObject(value, "request"), "cancel"); }

}  // namespace autoglm::addon
