// Models whose layers lie on several devices of the fake driver, beside the same model on one.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "fake_driver_controls.h"
#include "step_runner.h"

namespace autoglm::test {

// First layers of stages on devices 0, 1, ...; what lies before the first one is the processor's.
using Cuts = std::vector<int32_t>;

inline LoadRequest pipeline_request(const RandomModel& model, const Cuts& cuts) {
  LoadRequest request = model.request();
  request.device = fake_device();
  request.device->stages.clear();
  for (const int32_t first_layer : cuts) {
    const auto device_idx = static_cast<int32_t>(request.device->stages.size());
    request.device->stages.push_back({.device_idx = device_idx, .first_layer = first_layer});
  }
  return request;
}

class PipelineTest : public testing::Test {
 protected:
  PipelineTest() {
    driver_.set("num_devices", 3);
    // Work of a later stage is done before that of an earlier one wherever no event forbids it.
    driver_.set("last_stream_first", 1);
  }

  int64_t count_on(int32_t device_idx, const std::string& name) const {
    return driver_.count((name + "@" + std::to_string(device_idx)).c_str());
  }

  FakeDriver driver_;
};

}  // namespace autoglm::test
