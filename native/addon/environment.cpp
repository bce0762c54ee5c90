#include "addon/environment.h"

#include <string>
#include <utility>

#include "addon/js_object.h"
#include "base/error.h"

namespace autoglm::addon {
namespace {

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

}  // namespace

int64_t Environment::checked_id(Napi::Value handle, const char* kind, int64_t parity) const {
  const int64_t id = checked_integer(handle, 1, kMaxSafeInteger, std::string("the ") + kind + " handle");
  if (id / 2 > last_id_ || id % 2 != parity) {
    throw Error(ErrorCode::invalid_parameter, std::to_string(id) + " is no handle of an " +
                                                  (parity == 0 ? "engine" : "open or closed model"));
  }
  return id;
}

EngineBinding* Environment::find_engine(Napi::Value handle) const {
  const auto found = engines_.find(checked_id(handle, "engine", 0));
  return found == engines_.end() ? nullptr : found->second.get();
}

EngineBinding* Environment::find_engine_of_model(Napi::Value handle, int64_t& model_id) const {
  model_id = checked_id(handle, "model", 1);
  const auto found = engines_of_models_.find(model_id);
  return found == engines_of_models_.end() ? nullptr : found->second;
}

EngineBinding& Environment::engine(Napi::Value handle) const {
  EngineBinding* const found = find_engine(handle);
  if (found == nullptr || found->is_closing()) throw Error(ErrorCode::engine_closed, "the engine is closed");
  return *found;
}

EngineBinding& Environment::engine_of_model(Napi::Value handle, int64_t& model_id) const {
  EngineBinding* const found = find_engine_of_model(handle, model_id);
  if (found == nullptr) throw Error(ErrorCode::engine_closed, "the model is closed");
  return *found;
}

void Environment::add_engine(std::unique_ptr<EngineBinding> engine) {
  const int64_t engine_id = engine->id();
  engines_[engine_id] = std::move(engine);
}

}  // namespace autoglm::addon
