// The device under test, and how times on it are taken: graphs of launches that are replayed between events.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/driver/device_registry.h"
#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"

namespace autoglm::bench {

struct LabSettings {
  std::string library = cuda::kDriverLibrary;
  int device_idx = 0;
  bool is_toy = false;  // tiny sizes and few samples: a run on the emulator shows that nothing breaks
};

// Seconds of one launch.
struct Timing {
  double median = 0;
  double fastest = 0;
  double slowest = 0;
};

Timing timing_of(std::vector<double> seconds);
double now();  // seconds by the host's steady clock

// What random device memory is to hold.
enum class Content : uint8_t {
  bytes,
  bf16,        // +- [1/8, 2)
  small_bf16,  // +- [1/64, 1/4)
  scales,      // halves in [1/128, 1/64)
  small_f16,   // halves, +- [1/64, 1/4)
  logits,      // floats, normal with deviation 2.5
};
inline constexpr size_t kNumContents = 6;

class Lab;

// A mark by the device's clock; in toy sizes by the host's, since the fake driver has none.
class TimedEvent {
 public:
  explicit TimedEvent(Lab& lab);
  // In any stream of the lab's device.
  void record(cuda::CUstream stream);
  double seconds_since(const TimedEvent& earlier) const;

 private:
  Lab* lab_;
  cuda::Owned<cuda::CUevent, &cuda::Driver::cuEventDestroy_v2> handle_;
  double host_seconds_ = 0;
};

class Lab {
 public:
  explicit Lab(const LabSettings& settings);

  bool is_toy() const { return settings_.is_toy; }
  const std::string& library() const { return settings_.library; }
  cuda::Context& context() const { return *context_; }
  const std::shared_ptr<cuda::Context>& shared_context() const { return context_; }
  cuda::Stream& stream() { return stream_; }
  const cuda::DeviceInfo& device() const { return context_->device(); }
  // Buffers in turn, so that none is in the L2 cache of 60 MB (H200) when its turn comes again.
  int num_turns(int64_t bytes_of_a_turn) const;

  cuda::DeviceMemory allocate(int64_t num_bytes);
  cuda::DeviceMemory random(int64_t num_bytes, Content content);
  cuda::DeviceMemory zeros(int64_t num_bytes);
  template <typename T>
  cuda::DeviceMemory upload(const std::vector<T>& values) {
    cuda::DeviceMemory memory = allocate(static_cast<int64_t>(values.size() * sizeof(T)));
    stream_.copy_to_device(memory.data(), values.data(), memory.size());
    return memory;
  }
  template <typename T>
  std::vector<T> read(const T* address, int64_t count) {
    std::vector<T> values(count);
    stream_.copy_to_host(values.data(), address, values.size() * sizeof(T));
    return values;
  }

  // `enqueue(turn)` gives the work of one turn to the stream.
  Timing measure(int num_turns, const std::function<void(int turn)>& enqueue);
  // Bytes read and written in a second by copies on the device.
  double copy_rate();
  // What nvidia-smi says while the device is busy with some 0.5 s of this work, or an empty text.
  std::string load_report(double seconds_of_one, const std::function<void(int turn)>& enqueue);

 private:
  std::vector<double> time_passes(int count, const std::function<void()>& pass);

  LabSettings settings_;
  std::shared_ptr<cuda::Context> context_;
  cuda::Stream stream_;
  std::array<cuda::DeviceMemory, kNumContents> blocks_;  // made when first needed
};

}  // namespace autoglm::bench
