// Reads one adapter on a thread of its own, beside whatever the engine computes.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <thread>

#include "model/adapter.h"

namespace autoglm {

class AdapterJob {
 public:
  // `request` is checked. `cancel` is the caller's word: not zero, it ends the job with `aborted`. `on_done`
  // is the job's last act, on its thread; it must neither block nor throw.
  AdapterJob(AdapterRequest request, const int32_t* cancel, std::function<void()> on_done);
  // Stops at the next tensor and joins.
  ~AdapterJob();
  AdapterJob(const AdapterJob&) = delete;
  AdapterJob& operator=(const AdapterJob&) = delete;

  // The job ends with engine_closed soon.
  void stop() { is_stopping_.store(true, std::memory_order_relaxed); }
  // Once, after `on_done`: the adapter, or the exception that ended the job.
  std::unique_ptr<const Adapter> take_adapter();

 private:
  void run() noexcept;
  void check() const;

  AdapterRequest request_;
  const int32_t* cancel_;
  std::function<void()> on_done_;
  std::atomic<bool> is_stopping_{false};
  std::unique_ptr<const Adapter> adapter_;
  std::exception_ptr failure_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace autoglm
