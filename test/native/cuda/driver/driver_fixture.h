// A device of the fake driver with the modules that the tests here use.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cuda/driver/device_registry.h"
#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"
#include "fake_driver/fake_cuda.h"
#include "fake_driver/probe_kernels.h"

namespace autoglm::test {

inline std::span<const cuda::EmbeddedModule> probe_modules() {
  static constexpr std::byte kImage[4] = {};
  static constexpr const char* kProbes[] = {"probe_scale", "probe_dynamic", "probe_static", "probe_overrun",
                                            "probe_deadlock"};
  static constexpr const char* kNorms[] = {"norm_by_4", "norm_by_1"};
  static constexpr const char* kStale[] = {"probe_that_the_image_lacks"};
  static constexpr cuda::EmbeddedModule kModules[] = {{kImage, kProbes}, {kImage, kNorms}, {kImage, kStale}};
  return kModules;
}

inline std::shared_ptr<cuda::Context> open_fake(int device_idx = 0) {
  return cuda::open_device(device_idx, probe_modules(), AUTOGLM_FAKE_CUDA);
}

// The Error that `body` throws; fails when it throws none.
template <typename Body>
Error error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {ErrorCode::internal, ""};
}

inline void expect_error(const Error& error, ErrorCode code, const std::string& part) {
  EXPECT_EQ(name_of(error.code), name_of(code)) << error.what();
  EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
}

// Numbers on the device, and back.
class DeviceFloats {
 public:
  DeviceFloats(cuda::Stream& stream, const std::vector<float>& values)
      : memory_(stream.shared_context(), values.size() * sizeof(float)), count_(values.size()) {
    stream.copy_to_device(memory_.data(), values.data(), memory_.size());
  }
  float* data() const { return memory_.as<float>(); }
  std::vector<float> read(cuda::Stream& stream) const {
    std::vector<float> values(count_);
    stream.copy_to_host(values.data(), memory_.data(), memory_.size());
    return values;
  }

 private:
  cuda::DeviceMemory memory_;
  size_t count_;
};

}  // namespace autoglm::test
