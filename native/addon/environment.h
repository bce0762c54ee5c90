// Instance data: what one JavaScript environment (the main thread, a worker) has open. Nothing is shared
// between them.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "addon/engine_binding.h"

namespace autoglm::addon {

// Handles are numbers that are never given out twice, engines even and models odd: a late call finds nothing
// instead of somebody else's model.
class Environment {
 public:
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  int64_t next_engine_id() { return 2 * ++last_id_; }
  int64_t next_model_id() { return 2 * ++last_id_ + 1; }

  // Throw invalid_parameter for what was never a handle and engine_closed for what has been closed.
  EngineBinding& engine(Napi::Value handle) const;
  EngineBinding& engine_of_model(Napi::Value handle, int64_t& model_id) const;
  // The same for closing: null when it has been closed already.
  EngineBinding* find_engine(Napi::Value handle) const;
  EngineBinding* find_engine_of_model(Napi::Value handle, int64_t& model_id) const;

  void add_engine(std::unique_ptr<EngineBinding> engine);
  void remove_engine(int64_t engine_id) { engines_.erase(engine_id); }
  void add_model(int64_t model_id, EngineBinding& engine) { engines_of_models_[model_id] = &engine; }
  void remove_model(int64_t model_id) { engines_of_models_.erase(model_id); }

 private:
  int64_t checked_id(Napi::Value handle, const char* kind, int64_t parity) const;

  int64_t last_id_ = 0;
  std::unordered_map<int64_t, std::unique_ptr<EngineBinding>> engines_;
  std::unordered_map<int64_t, EngineBinding*> engines_of_models_;
};

}  // namespace autoglm::addon
