// One engine as JavaScript sees it: its models, loads and promises, and the thread-safe function through
// which native threads report. Everything here runs on the environment's own thread.
#pragma once

#include <napi.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "addon/event.h"
#include "addon/reference.h"
#include "runtime/adapter_job.h"
#include "runtime/engine.h"
#include "runtime/load_job.h"
#include "runtime/save_job.h"

namespace autoglm::addon {

class Environment;

class EngineBinding {
 public:
  EngineBinding(Napi::Env env, Environment& environment, int64_t id, int num_threads, Isa isa,
                Napi::Function on_step);
  ~EngineBinding();
  EngineBinding(const EngineBinding&) = delete;
  EngineBinding& operator=(const EngineBinding&) = delete;

  int64_t id() const { return id_; }
  bool is_closing() const { return is_closing_; }

  // Promises, as in lib/native/addon.ts.
  napi_value close();
  napi_value load_model(int64_t model_id, Napi::Object request, Napi::Function on_progress);
  napi_value close_model(int64_t model_id);
  napi_value load_adapter(int64_t model_id, Napi::Object request);
  napi_value unload_adapter(int64_t model_id, int32_t adapter_id);
  napi_value save_weights(int64_t model_id, Napi::Object request);

  // Throws engine_closed when the model is closing.
  const Model& model(int64_t model_id) const { return *open_model(model_id).model; }
  void set_output(int64_t model_id, int32_t output_id, Napi::Value buffer);
  void submit_step(int64_t model_id, int slot);

 private:
  struct OpenModel {
    std::shared_ptr<Model> model;          // null once it is closing
    std::vector<Reference> shared_memory;  // plans and results
    std::unordered_map<int32_t, Reference> outputs;
    // Outputs that were taken back while steps were queued which may still write them, with the number of
    // steps submitted until then.
    std::vector<std::pair<int64_t, Reference>> retired_outputs;
    std::array<bool, abi::Limits::queueDepth> is_slot_queued{};
    int64_t num_submitted = 0;
    int64_t num_finished = 0;
    std::unordered_set<int32_t> adapters;
    std::vector<napi_deferred> close_waiters;
  };
  struct AdapterLoad {
    int64_t model_id = 0;
    std::unique_ptr<AdapterJob> job;
    napi_deferred deferred = nullptr;
    Reference cancel;
  };
  struct Save {
    int64_t model_id = 0;
    std::unique_ptr<SaveJob> job;
    napi_deferred deferred = nullptr;
    Reference pace;
  };
  struct Load {
    std::unique_ptr<LoadJob> job;
    napi_deferred deferred = nullptr;
    Reference on_progress;
    Reference cancel;
    std::vector<Reference> shared_memory;
  };

  static void on_event(napi_env env, napi_value, void* context, void* data);
  static void on_environment_end(void* self);
  void send(const Event& event) const;

  void handle(const Event& event);
  void handle_step(const Event& event);
  void handle_model_closed(int64_t model_id);
  void handle_load_progress(int64_t model_id);
  void handle_load_done(int64_t model_id);
  void handle_adapter_read(int32_t adapter_id);
  // The end of a load: what `finish` returns resolves its promise, what it throws rejects it.
  template <typename Pending, typename Finish>
  void settle_job(Pending& pending, Finish&& finish);
  void handle_adapter_removed(int32_t adapter_id);
  void handle_weights_saved(int64_t save_id);
  bool has_jobs() const { return !loads_.empty() || !adapter_loads_.empty() || !saves_.empty(); }
  void finish_close();
  void stop_jobs();
  void start_closing(OpenModel& model);
  // Stops and joins all native threads, then lets go of everything JavaScript.
  void shut_down();
  // While something is pending the thread-safe function keeps the event loop alive; an idle engine does not.
  void change_pending(int change);
  OpenModel& open_model(int64_t model_id);
  const OpenModel& open_model(int64_t model_id) const;
  void call(napi_value function, std::span<const napi_value> arguments) const;
  void resolve(napi_deferred deferred, napi_value value) const;
  napi_value undefined() const;

  const napi_env env_;
  Environment& environment_;
  const int64_t id_;
  const int num_threads_;
  Reference on_step_;
  napi_threadsafe_function to_javascript_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::unordered_map<int64_t, OpenModel> models_;
  std::unordered_map<int64_t, Load> loads_;
  std::unordered_map<int32_t, AdapterLoad> adapter_loads_;
  std::unordered_map<int32_t, napi_deferred> adapter_removals_;
  std::unordered_map<int64_t, Save> saves_;
  int32_t last_adapter_id_ = 0;  // never given out twice
  int64_t last_save_id_ = 0;
  std::vector<napi_deferred> close_waiters_;
  int num_pending_ = 0;
  bool is_closing_ = false;
  bool is_engine_stopped_ = false;
};

}  // namespace autoglm::addon
