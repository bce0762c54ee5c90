#include "device_launch.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "cuda/driver/device_registry.h"
#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"
#include "host_memory.h"

namespace autoglm::gpu_check {
namespace {

Settings settings;
std::unique_ptr<cuda::Stream> stream;
int64_t num_launches = 0;

cuda::Stream& open_stream() {
  if (stream == nullptr) {
    stream = std::make_unique<cuda::Stream>(
        cuda::open_device(settings.device_idx, settings.modules, settings.library));
  }
  return *stream;
}

// The copies of one launch.
class Mirrors {
 public:
  explicit Mirrors(cuda::Stream& stream) : stream_(stream) {}

  // Replaces addresses among the words of `bytes`, and further ones behind `depth` - 1 of them; returns
  // whether there were any. What is left of other memory in a vector's spare capacity is not followed.
  bool redirect(std::span<std::byte> bytes, int depth) {
    if (depth == 0) return false;
    bool has_addresses = false;
    for (size_t offset = 0; offset + sizeof(uintptr_t) <= bytes.size(); offset += sizeof(uintptr_t)) {
      uintptr_t word = 0;
      std::memcpy(&word, bytes.data() + offset, sizeof(word));
      const uintptr_t redirected = device_address(word, depth);
      if (redirected == word) continue;
      std::memcpy(bytes.data() + offset, &redirected, sizeof(word));
      has_addresses = true;
    }
    return has_addresses;
  }

  void copy_back() {
    for (const Mirror& each : mirrors_) {
      if (each.is_written) stream_.copy_to_host(each.host.data(), each.device.data(), each.host.size());
    }
  }

 private:
  struct Mirror {
    std::span<std::byte> host;
    cuda::DeviceMemory device;
    bool is_written = true;
  };

  uintptr_t device_address(uintptr_t word, int depth) {
    constexpr uintptr_t kLowest = uintptr_t{1} << 32;  // of a 64-bit process; small numbers need no search
    if (word < kLowest) return word;
    const auto* address = reinterpret_cast<const std::byte*>(word);
    for (const Mirror& each : mirrors_) {
      if (address >= each.host.data() && address < each.host.data() + each.host.size()) {
        return reinterpret_cast<uintptr_t>(each.device.data() + (address - each.host.data()));
      }
    }
    if (const auto host = find_allocation(address)) {
      return reinterpret_cast<uintptr_t>(add(*host, depth) + (address - host->data()));
    }
    if (!is_on_stack(address)) return word;
    // A single number that a test has in a local variable; kernels read those and write none.
    auto* number = reinterpret_cast<std::byte*>(word);
    std::byte* device = add({number, sizeof(int64_t)}, depth);
    mirrors_.back().is_written = false;
    return reinterpret_cast<uintptr_t>(device);
  }

  std::byte* add(std::span<std::byte> host, int depth) {
    cuda::DeviceMemory device(stream_.shared_context(), host.size());
    std::byte* address = device.data();
    const size_t index = mirrors_.size();
    mirrors_.push_back({host, std::move(device)});
    std::vector<std::byte> contents(host.begin(), host.end());
    if (redirect(contents, depth - 1)) mirrors_[index].is_written = false;
    stream_.copy_to_device(address, contents.data(), contents.size());
    return address;
  }

  cuda::Stream& stream_;
  std::vector<Mirror> mirrors_;
};

}  // namespace

void configure(const Settings& chosen) { settings = chosen; }

int64_t close_device() {
  stream.reset();
  return num_launches;
}

int num_shapes() {
  constexpr int kWithoutGpu = 4;
  const char* wanted = std::getenv("AUTOGLM_CHECK_SHAPES");
  return wanted == nullptr ? kWithoutGpu : std::atoi(wanted);
}

void launch_on_device(const cuda::LaunchShape& shape, const void* argument, size_t argument_bytes,
                      Tables tables) {
  cuda::Stream& target = open_stream();
  const auto* bytes = static_cast<const std::byte*>(argument);
  std::vector<std::byte> redirected(bytes, bytes + argument_bytes);
  Mirrors mirrors(target);
  mirrors.redirect(redirected, tables == Tables::hold_addresses ? 2 : 1);
  target.launch(shape, redirected.data(), argument_bytes);
  ++num_launches;
  mirrors.copy_back();
  target.synchronize();
}

}  // namespace autoglm::gpu_check
