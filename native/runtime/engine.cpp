#include "runtime/engine.h"

#include <algorithm>
#include <utility>

#include "base/thread_pool.h"

namespace autoglm {

Engine::Engine(int num_threads, Isa isa, EngineListener listener)
    : listener_(std::move(listener)),
      pool_(num_threads),
      execution_(pool_, isa),
      thread_([this] { run(); }) {}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    if (running_ != nullptr) running_->interrupt();
  }
  has_commands_.notify_one();
  thread_.join();
}

void Engine::submit(std::shared_ptr<Model> model, int slot) {
  push({.kind = Command::Kind::step, .model = std::move(model), .slot = slot});
}

void Engine::close_model(std::shared_ptr<Model> model) {
  model->interrupt();
  push({.kind = Command::Kind::close_model, .model = std::move(model)});
}

void Engine::remove_adapter(std::shared_ptr<Model> model, int32_t adapter_id) {
  push({.kind = Command::Kind::remove_adapter, .model = std::move(model), .adapter_id = adapter_id});
}

void Engine::request_stop() { push({.kind = Command::Kind::stop}); }

void Engine::push(Command command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  has_commands_.notify_one();
}

Engine::Command Engine::take() {
  std::unique_lock lock(mutex_);
  running_ = nullptr;
  has_commands_.wait(lock, [this] { return is_stopping_ || !commands_.empty(); });
  if (is_stopping_) return {};
  Command command = std::move(commands_.front());
  commands_.pop_front();
  // A step's model is kept alive by its owner or by a close command behind the step.
  if (command.kind == Command::Kind::step) running_ = command.model.get();
  return command;
}

void Engine::run_step(const Command& command) {
  Model& model = *command.model;
  const Model::NextSlot next = [this, &model] { return next_slot(&model); };
  if (!model.run_step(command.slot, execution_, next)) return notices_.drop();
  const auto told = notices_.add({model.id(), command.slot}, model.is_steady(), num_queued_steps(&model),
                                 StepNotices::Clock::now());
  for (size_t i = 0; i < told.size(); ++i)
    listener_.on_step(told[i].model_id, told[i].slot, i + 1 < told.size());
}

// Of the step at the head of the queue, where it is the model's.
std::optional<int> Engine::next_slot(const Model* model) {
  const std::lock_guard lock(mutex_);
  if (commands_.empty() || commands_.front().kind != Command::Kind::step) return std::nullopt;
  if (commands_.front().model.get() != model) return std::nullopt;
  return commands_.front().slot;
}

// Steps of the model at the head of the queue.
size_t Engine::num_queued_steps(const Model* model) {
  const std::lock_guard lock(mutex_);
  const auto end = std::ranges::find_if(commands_, [model](const Command& command) {
    return command.kind != Command::Kind::step || command.model.get() != model;
  });
  return static_cast<size_t>(end - commands_.begin());
}

void Engine::run() {
  pool_.place_caller();
  for (;;) {
    Command command = take();
    switch (command.kind) {
      case Command::Kind::step:
        run_step(command);
        break;
      case Command::Kind::close_model: {
        const int64_t model_id = command.model->id();
        pool_.await_stragglers();
        command.model.reset();
        listener_.on_model_closed(model_id);
        break;
      }
      case Command::Kind::remove_adapter:
        pool_.await_stragglers();
        command.model->remove_adapter(command.adapter_id);
        command.model.reset();
        listener_.on_adapter_removed(command.adapter_id);
        break;
      case Command::Kind::stop:
        listener_.on_stopped();
        return;
    }
  }
}

}  // namespace autoglm
