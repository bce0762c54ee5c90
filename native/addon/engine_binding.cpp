#include "addon/engine_binding.h"

#include <string>

#include "addon/environment.h"
#include "addon/guard.h"
#include "addon/js_object.h"
#include "addon/load_conversion.h"
#include "base/error.h"
#include "runtime/step_records.h"

namespace autoglm::addon {
namespace {

void check(napi_status status, const char* what) {
  if (status != napi_ok) throw Error(ErrorCode::internal, std::string("Node-API refused to ") + what);
}

napi_value create_promise(napi_env env, napi_deferred& deferred) {
  napi_value promise = nullptr;
  check(napi_create_promise(env, &deferred, &promise), "create a promise");
  return promise;
}

std::vector<Reference> keep_shared_memory(Napi::Object request) {
  std::vector<Reference> result;
  for (const char* name : {"plans", "results"}) {
    const auto buffers = request.Get(name).As<Napi::Object>();
    for (uint32_t slot = 0; slot < abi::Limits::queueDepth; ++slot)
      result.emplace_back(request.Env(), buffers.Get(slot));
  }
  return result;
}

}  // namespace

// The cleanup hook is added after the thread-safe function, whose own hook therefore runs later: native
// threads are joined before the function they call goes away.
EngineBinding::EngineBinding(Napi::Env env, Environment& environment, int64_t id, int num_threads, Isa isa,
                             Napi::Function on_step)
    : env_(env), environment_(environment), id_(id), num_threads_(num_threads), on_step_(env, on_step) {
  check(napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "open-autoglm engine"),
                                        0, 1, nullptr, nullptr, this, on_event, &to_javascript_),
        "create a thread-safe function");
  try {
    check(napi_unref_threadsafe_function(env, to_javascript_), "unref a thread-safe function");
    engine_ = std::make_unique<Engine>(
        num_threads, isa,
        EngineListener{
            .on_step =
                [this](int64_t model_id, int slot, bool has_more) {
                  send({.kind = Event::Kind::step_finished,
                        .id = model_id,
                        .slot = slot,
                        .has_more = has_more});
                },
            .on_model_closed =
                [this](int64_t model_id) { send({.kind = Event::Kind::model_closed, .id = model_id}); },
            .on_adapter_removed =
                [this](int32_t adapter_id) {
                  send({.kind = Event::Kind::adapter_removed, .id = adapter_id});
                },
            .on_stopped = [this] { send({.kind = Event::Kind::engine_stopped}); }});
    check(napi_add_env_cleanup_hook(env, on_environment_end, this), "add a cleanup hook");
  } catch (...) {
    engine_.reset();
    napi_release_threadsafe_function(to_javascript_, napi_tsfn_abort);
    throw;
  }
}

EngineBinding::~EngineBinding() {
  if (to_javascript_ == nullptr) return;
  napi_remove_env_cleanup_hook(env_, on_environment_end, this);
  shut_down();
}

void EngineBinding::shut_down() {
  stop_jobs();
  engine_.reset();
  loads_.clear();
  adapter_loads_.clear();
  saves_.clear();
  models_.clear();
  on_step_ = Reference();
  napi_release_threadsafe_function(to_javascript_, napi_tsfn_abort);
  to_javascript_ = nullptr;
}

void EngineBinding::on_environment_end(void* self) {
  auto& binding = *static_cast<EngineBinding*>(self);
  binding.is_closing_ = true;
  binding.shut_down();
}

// Native threads. A refusal means that the environment is ending, and then nobody is left to be told.
void EngineBinding::send(const Event& event) const {
  (void)napi_call_threadsafe_function(to_javascript_, encode(event), napi_tsfn_nonblocking);
}

void EngineBinding::on_event(napi_env env, napi_value, void* context, void* data) {
  if (env == nullptr) return;  // the environment has ended; `context` may be gone
  try {
    static_cast<EngineBinding*>(context)->handle(decode(data));
  } catch (const Napi::Error&) {
    // The JavaScript exception is pending or the environment is being terminated: Node deals with either.
  } catch (...) {
    (void)napi_fatal_exception(env, current_js_error(env));
  }
}

void EngineBinding::handle(const Event& event) {
  switch (event.kind) {
    case Event::Kind::step_finished:
      return handle_step(event);
    case Event::Kind::model_closed:
      return handle_model_closed(event.id);
    case Event::Kind::load_progressed:
      return handle_load_progress(event.id);
    case Event::Kind::load_done:
      return handle_load_done(event.id);
    case Event::Kind::adapter_read:
      return handle_adapter_read(static_cast<int32_t>(event.id));
    case Event::Kind::adapter_removed:
      return handle_adapter_removed(static_cast<int32_t>(event.id));
    case Event::Kind::weights_saved:
      return handle_weights_saved(event.id);
    case Event::Kind::engine_stopped:
      is_engine_stopped_ = true;
      if (!has_jobs()) finish_close();
  }
}

void EngineBinding::handle_step(const Event& event) {
  const auto found = models_.find(event.id);
  if (found == models_.end()) return;
  OpenModel& model = found->second;
  model.is_slot_queued[static_cast<size_t>(event.slot)] = false;
  ++model.num_finished;
  std::erase_if(model.retired_outputs, [&](const auto& each) { return each.first <= model.num_finished; });
  change_pending(-1);
  if (model.model == nullptr) return;
  napi_value arguments[3];
  if (napi_create_int64(env_, event.id, &arguments[0]) != napi_ok ||
      napi_create_int32(env_, event.slot, &arguments[1]) != napi_ok ||
      napi_get_boolean(env_, event.has_more, &arguments[2]) != napi_ok) {
    return;
  }
  call(on_step_.value(), arguments);
}

void EngineBinding::handle_model_closed(int64_t model_id) {
  const auto found = models_.find(model_id);
  if (found == models_.end()) return;
  const auto waiters = std::move(found->second.close_waiters);
  const int64_t num_dropped = found->second.num_submitted - found->second.num_finished;
  models_.erase(found);
  environment_.remove_model(model_id);
  change_pending(-1 - static_cast<int>(num_dropped));
  for (const napi_deferred waiter : waiters) resolve(waiter, undefined());
}

void EngineBinding::handle_load_progress(int64_t model_id) {
  const auto found = loads_.find(model_id);
  if (found == loads_.end()) return;
  napi_value arguments[2];
  if (napi_create_int64(env_, found->second.job->loaded_bytes(), &arguments[0]) != napi_ok ||
      napi_create_int64(env_, found->second.job->total_bytes(), &arguments[1]) != napi_ok) {
    return;
  }
  call(found->second.on_progress.value(), arguments);
}

// What a callback throws becomes an uncaught exception; Node itself would only print a warning. A null is
// what a terminated environment leaves behind.
void EngineBinding::call(napi_value function, std::span<const napi_value> arguments) const {
  const napi_env env = env_;  // the callback may have closed the engine
  if (napi_call_function(env, undefined(), function, arguments.size(), arguments.data(), nullptr) !=
      napi_pending_exception) {
    return;
  }
  napi_value exception = nullptr;
  napi_valuetype type = napi_null;
  if (napi_get_and_clear_last_exception(env, &exception) != napi_ok || exception == nullptr ||
      napi_typeof(env, exception, &type) != napi_ok || type == napi_null) {
    return;
  }
  (void)napi_fatal_exception(env, exception);
}

template <typename Pending, typename Finish>
void EngineBinding::settle_job(Pending& pending, Finish&& finish) {
  change_pending(-1);
  try {
    resolve(pending.deferred, finish());
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    (void)napi_reject_deferred(env_, pending.deferred, current_js_error(env_));
  }
  pending.job.reset();
  if (is_engine_stopped_ && !has_jobs()) finish_close();
}

void EngineBinding::handle_load_done(int64_t model_id) {
  auto entry = loads_.extract(model_id);
  if (entry.empty()) return;
  Load& load = entry.mapped();
  settle_job(load, [&] {
    std::shared_ptr<Model> model = load.job->take_model();
    if (is_closing_)
      throw Error(ErrorCode::engine_closed, "the engine was closed while the model was loading");
    models_[model_id] = {.model = std::move(model),
                         .shared_memory = std::move(load.shared_memory),
                         .outputs = {},
                         .retired_outputs = {},
                         .adapters = {},
                         .close_waiters = {}};
    environment_.add_model(model_id, *this);
    napi_value handle = nullptr;
    check(napi_create_int64(env_, model_id, &handle), "create a number");
    return handle;
  });
}

void EngineBinding::handle_adapter_read(int32_t adapter_id) {
  auto entry = adapter_loads_.extract(adapter_id);
  if (entry.empty()) return;
  AdapterLoad& load = entry.mapped();
  settle_job(load, [&]() -> napi_value {
    std::unique_ptr<const Adapter> adapter = load.job->take_adapter();
    OpenModel& model = open_model(load.model_id);
    const int64_t num_bytes = adapter->num_bytes();
    model.model->add_adapter(adapter_id, std::move(adapter));
    model.adapters.insert(adapter_id);
    auto result = Napi::Object::New(env_);
    result.Set("id", adapter_id);
    result.Set("bytes", static_cast<double>(num_bytes));
    return result;
  });
}

void EngineBinding::handle_adapter_removed(int32_t adapter_id) {
  const auto entry = adapter_removals_.extract(adapter_id);
  if (entry.empty()) return;
  change_pending(-1);
  resolve(entry.mapped(), undefined());
}

void EngineBinding::handle_weights_saved(int64_t save_id) {
  auto entry = saves_.extract(save_id);
  if (entry.empty()) return;
  Save& save = entry.mapped();
  settle_job(save, [&] { return checksum_words(env_, save.job->take_checksums()); });
}

void EngineBinding::stop_jobs() {
  for (auto& [model_id, load] : loads_) load.job->stop();
  for (auto& [adapter_id, load] : adapter_loads_) load.job->stop();
  for (auto& [save_id, save] : saves_) save.job->stop();
}

napi_value EngineBinding::close() {
  napi_deferred deferred = nullptr;
  const napi_value promise = create_promise(env_, deferred);
  close_waiters_.push_back(deferred);
  if (is_closing_) return promise;
  is_closing_ = true;
  change_pending(1);
  stop_jobs();
  for (auto& [model_id, model] : models_) {
    if (model.model != nullptr) start_closing(model);
  }
  engine_->request_stop();
  return promise;
}

void EngineBinding::finish_close() {
  const auto waiters = std::move(close_waiters_);
  change_pending(-1);
  for (const napi_deferred waiter : waiters) resolve(waiter, undefined());
  environment_.remove_engine(id_);  // destroys this
}

napi_value EngineBinding::load_model(int64_t model_id, Napi::Object request, Napi::Function on_progress) {
  LoadRequest converted = to_load_request(request);
  Load load;
  load.shared_memory = keep_shared_memory(request);
  load.cancel = Reference(env_, request.Get("cancel"));
  load.on_progress = Reference(env_, on_progress);
  const napi_value promise = create_promise(env_, load.deferred);
  Load& kept = loads_[model_id] = std::move(load);
  try {
    kept.job = std::make_unique<LoadJob>(
        model_id, std::move(converted), num_threads_,
        LoadListener{
            .on_progress = [this, model_id] { send({.kind = Event::Kind::load_progressed, .id = model_id}); },
            .on_done = [this, model_id] { send({.kind = Event::Kind::load_done, .id = model_id}); }});
  } catch (...) {
    loads_.erase(model_id);
    throw;
  }
  change_pending(1);
  return promise;
}

napi_value EngineBinding::close_model(int64_t model_id) {
  napi_deferred deferred = nullptr;
  const napi_value promise = create_promise(env_, deferred);
  const auto found = models_.find(model_id);
  if (found == models_.end()) {
    resolve(deferred, undefined());
    return promise;
  }
  found->second.close_waiters.push_back(deferred);
  for (auto& [save_id, save] : saves_) {
    if (save.model_id == model_id) save.job->stop();
  }
  if (found->second.model != nullptr) start_closing(found->second);
  return promise;
}

napi_value EngineBinding::load_adapter(int64_t model_id, Napi::Object request) {
  AdapterRequest converted = to_adapter_request(request);
  check_adapter_request(open_model(model_id).model->spec(), converted);
  AdapterLoad load;
  load.model_id = model_id;
  load.cancel = Reference(env_, request.Get("cancel"));
  const int32_t* const cancel = cancel_word(request);
  const napi_value promise = create_promise(env_, load.deferred);
  const int32_t adapter_id = ++last_adapter_id_;
  AdapterLoad& kept = adapter_loads_[adapter_id] = std::move(load);
  try {
    kept.job = std::make_unique<AdapterJob>(std::move(converted), cancel, [this, adapter_id] {
      send({.kind = Event::Kind::adapter_read, .id = adapter_id});
    });
  } catch (...) {
    adapter_loads_.erase(adapter_id);
    throw;
  }
  change_pending(1);
  return promise;
}

napi_value EngineBinding::unload_adapter(int64_t model_id, int32_t adapter_id) {
  OpenModel& model = open_model(model_id);
  if (model.adapters.erase(adapter_id) == 0) {
    throw Error(ErrorCode::invalid_parameter,
                "adapter " + std::to_string(adapter_id) + " is not loaded in this model");
  }
  napi_deferred deferred = nullptr;
  const napi_value promise = create_promise(env_, deferred);
  adapter_removals_[adapter_id] = deferred;
  change_pending(1);
  engine_->remove_adapter(model.model, adapter_id);
  return promise;
}

napi_value EngineBinding::save_weights(int64_t model_id, Napi::Object request) {
  SaveRequest converted = to_save_request(request);
  std::shared_ptr<const Model> model = open_model(model_id).model;
  Save save;
  save.model_id = model_id;
  save.pace = Reference(env_, request.Get("pace"));
  const napi_value promise = create_promise(env_, save.deferred);
  const int64_t save_id = ++last_save_id_;
  Save& kept = saves_[save_id] = std::move(save);
  try {
    kept.job = std::make_unique<SaveJob>(std::move(model), std::move(converted), [this, save_id] {
      send({.kind = Event::Kind::weights_saved, .id = save_id});
    });
  } catch (...) {
    saves_.erase(save_id);
    throw;
  }
  change_pending(1);
  return promise;
}

void EngineBinding::start_closing(OpenModel& model) {
  change_pending(1);
  engine_->close_model(std::move(model.model));
  model.model = nullptr;
}

void EngineBinding::set_output(int64_t model_id, int32_t output_id, Napi::Value buffer) {
  OpenModel& model = open_model(model_id);
  const auto retire = [&] {
    const auto found = model.outputs.find(output_id);
    if (found == model.outputs.end()) return;
    if (model.num_finished < model.num_submitted) {
      model.retired_outputs.emplace_back(model.num_submitted, std::move(found->second));
    }
    model.outputs.erase(found);
  };
  if (buffer.IsNull()) {
    model.model->set_output(output_id, {});
    retire();
    return;
  }
  const auto values = float32_values(buffer, "the output buffer");
  if (values.empty())
    throw Error(ErrorCode::invalid_parameter, "expected an output buffer that is not empty");
  Reference reference(env_, buffer);
  model.model->set_output(output_id, values);
  retire();
  model.outputs[output_id] = std::move(reference);
}

void EngineBinding::submit_step(int64_t model_id, int slot) {
  OpenModel& model = open_model(model_id);
  bool& is_queued = model.is_slot_queued[static_cast<size_t>(slot)];
  if (is_queued) {
    throw Error(ErrorCode::invalid_parameter,
                "the step in slot " + std::to_string(slot) + " has not finished");
  }
  engine_->submit(model.model, slot);
  is_queued = true;
  ++model.num_submitted;
  change_pending(1);
}

void EngineBinding::change_pending(int change) {
  const bool was_pending = num_pending_ > 0;
  num_pending_ += change;
  const bool is_pending = num_pending_ > 0;
  if (is_pending == was_pending) return;
  (void)(is_pending ? napi_ref_threadsafe_function(env_, to_javascript_)
                    : napi_unref_threadsafe_function(env_, to_javascript_));
}

EngineBinding::OpenModel& EngineBinding::open_model(int64_t model_id) {
  const auto found = models_.find(model_id);
  if (found == models_.end() || found->second.model == nullptr) {
    throw Error(ErrorCode::engine_closed, "the model is closed");
  }
  return found->second;
}

const EngineBinding::OpenModel& EngineBinding::open_model(int64_t model_id) const {
  return const_cast<EngineBinding*>(this)->open_model(model_id);
}

// A refusal means that the environment is being terminated: nobody will look at the promise.
void EngineBinding::resolve(napi_deferred deferred, napi_value value) const {
  (void)napi_resolve_deferred(env_, deferred, value);
}

napi_value EngineBinding::undefined() const {
  napi_value result = nullptr;
  (void)napi_get_undefined(env_, &result);
  return result;
}

}  // namespace autoglm::addon
