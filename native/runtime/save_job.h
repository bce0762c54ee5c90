// Writes the packed weights of a loaded model to a file, on a thread that takes a tenth of a core at most
// until it is told to hurry.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/model.h"

namespace autoglm {

struct SaveRequest {
  std::string path;  // an existing file
  int64_t offset = 0;
  int64_t section_bytes = 0;
  const int32_t* pace = nullptr;  // one word: 0 gives way to other threads, 1 hurries, 2 stops
};

class SaveJob {
 public:
  // Keeps the model's memory until it is destroyed. `on_done` is the job's last act, on its thread; it must
  // neither block nor throw.
  SaveJob(std::shared_ptr<const Model> model, SaveRequest request, std::function<void()> on_done);
  // Stops at the next section and joins.
  ~SaveJob();
  SaveJob(const SaveJob&) = delete;
  SaveJob& operator=(const SaveJob&) = delete;

  // The job ends with engine_closed soon.
  void stop() { is_stopping_.store(true, std::memory_order_relaxed); }
  // Once, after `on_done`: the checksums of the sections, or the exception that ended the job.
  std::vector<uint64_t> take_checksums();

 private:
  void run() noexcept;
  void check();
  int32_t pace() const;

  std::shared_ptr<const Model> model_;
  SaveRequest request_;
  std::function<void()> on_done_;
  std::atomic<bool> is_stopping_{false};
  std::vector<uint64_t> checksums_;
  std::exception_ptr failure_;
  std::chrono::steady_clock::time_point section_began_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace autoglm
