// One engine thread: takes steps from the queues of all its models in the order in which they were submitted,
// and is worker 0 of the compute pool. It sleeps while nothing is queued.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "base/thread_pool.h"
#include "ops/execution.h"
#include "runtime/model.h"
#include "runtime/step_notices.h"

namespace autoglm {

// Called on the engine thread; must neither block nor throw.
struct EngineListener {
  // In the order of the steps; `has_more` when another finished step of the model follows at once.
  std::function<void(int64_t model_id, int slot, bool has_more)> on_step;
  std::function<void(int64_t model_id)> on_model_closed;
  std::function<void(int32_t adapter_id)> on_adapter_removed;
  std::function<void()> on_stopped;  // the thread's last act after request_stop
};

class Engine {
 public:
  // Starts the threads.
  Engine(int num_threads, Isa isa, EngineListener listener);
  // Interrupts the running step and joins. Whatever is queued is dropped without a word.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues the plan in `slot`. The caller has checked that the model's queue has room.
  void submit(std::shared_ptr<Model> model, int slot);
  // Interrupts the model's running step, drops its queued ones, frees it on the engine thread and reports it
  // closed. The caller gives up its own reference with this call.
  void close_model(std::shared_ptr<Model> model);
  // Frees the adapter once the steps queued before have run, and reports it. No later plan may name it.
  void remove_adapter(std::shared_ptr<Model> model, int32_t adapter_id);
  // Lets the thread end once it has done everything queued before; `on_stopped` tells when.
  void request_stop();

 private:
  struct Command {
    enum class Kind { step, close_model, remove_adapter, stop };
    Kind kind = Kind::stop;
    std::shared_ptr<Model> model = nullptr;
    int slot = 0;
    int32_t adapter_id = 0;
  };

  void push(Command command);
  Command take();
  void run();
  void run_step(const Command& command);
  size_t num_queued_steps(const Model* model);
  std::optional<int> next_slot(const Model* model);

  EngineListener listener_;
  std::mutex mutex_;
  std::condition_variable has_commands_;
  std::deque<Command> commands_;
  Model* running_ = nullptr;  // the model whose step runs; guarded by mutex_
  StepNotices notices_;       // the engine thread's
  bool is_stopping_ = false;
  ThreadPool pool_;
  Execution execution_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace autoglm
