// The fake driver in a test: its path, its controls, and what every test of this kind begins and ends with.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>

#include "cuda/driver/device_registry.h"
#include "fake_driver/control.h"

namespace autoglm::test {

// AUTOGLM_FAKE_CUDA is the library's path; the engine opens it as it would open a driver.
class FakeCuda {
 public:
  FakeCuda() : library_(dlopen(AUTOGLM_FAKE_CUDA, RTLD_NOW | RTLD_LOCAL)) {}
  // It stays loaded, as a driver does.

  void set(const char* name, int64_t value) const {
    ASSERT_TRUE(find<decltype(autoglm_fake_cuda_set)>("autoglm_fake_cuda_set")(name, value)) << name;
  }
  void fail(const char* function, int64_t nth, int code) const {
    find<decltype(autoglm_fake_cuda_fail)>("autoglm_fake_cuda_fail")(function, nth, code);
  }
  int64_t count(const char* name) const {
    return find<decltype(autoglm_fake_cuda_count)>("autoglm_fake_cuda_count")(name);
  }
  void reset() const { find<decltype(autoglm_fake_cuda_reset)>("autoglm_fake_cuda_reset")(); }

 private:
  template <typename Function>
  Function* find(const char* name) const {
    return reinterpret_cast<Function*>(dlsym(library_, name));
  }

  void* library_;
};

// Begins with the default device, and fails where something of it is alive at the end.
class FakeCudaTest : public testing::Test {
 protected:
  void SetUp() override { fake.reset(); }
  void TearDown() override {
    EXPECT_EQ(fake.count("objects"), 0)
        << "contexts, modules, streams, events, graphs or memory were left over";
    fake.reset();
  }

  FakeCuda fake;
};

}  // namespace autoglm::test
