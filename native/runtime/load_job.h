// Loads one model on threads of its own, beside whatever the engine computes.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <thread>

#include "model/load_weights.h"
#include "runtime/load_request.h"
#include "runtime/model.h"

namespace autoglm {

// Called on loading threads; must neither block nor throw.
struct LoadListener {
  std::function<void()> on_progress;  // at most every kProgressInterval
  std::function<void()> on_done;      // the job's last act
};

class LoadJob {
 public:
  static constexpr std::chrono::milliseconds kProgressInterval{30};

  LoadJob(int64_t model_id, LoadRequest request, int num_threads, LoadListener listener);
  // Stops the load at the next piece and joins.
  ~LoadJob();
  LoadJob(const LoadJob&) = delete;
  LoadJob& operator=(const LoadJob&) = delete;

  // The load ends with engine_closed soon.
  void stop() { is_stopping_.store(true, std::memory_order_relaxed); }
  int64_t loaded_bytes() const { return control_.loaded_bytes.load(std::memory_order_relaxed); }
  int64_t total_bytes() const { return control_.total_bytes.load(std::memory_order_relaxed); }
  // Once, after `on_done`: the model, or the exception that ended the load.
  std::shared_ptr<Model> take_model();

 private:
  void run(int num_threads) noexcept;
  std::shared_ptr<Model> load(int num_threads);
  std::unique_ptr<DecoderWeights> load_packed(ThreadPool& pool);
  std::unique_ptr<BackEnd> load_on_cpu(int num_threads);
  std::unique_ptr<BackEnd> load_on_device(int num_threads);
  int64_t max_logit_rows() const;
  void check();

  const int64_t model_id_;
  LoadRequest request_;
  LoadListener listener_;
  LoadControl control_;
  std::atomic<bool> is_stopping_{false};
  std::atomic<int64_t> next_progress_ms_{0};
  std::shared_ptr<Model> model_;
  std::exception_ptr failure_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace autoglm
