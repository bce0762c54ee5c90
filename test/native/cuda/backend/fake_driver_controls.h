// The fake driver's controls: the program opens it as a library, as it would the real one.
#pragma once

#include <dlfcn.h>

#include "fake_driver/control.h"

namespace autoglm::test {

class FakeDriver {
 public:
  FakeDriver() : library_(dlopen(AUTOGLM_FAKE_CUDA, RTLD_NOW | RTLD_LOCAL)) {
    find("autoglm_fake_cuda_set", set);
    find("autoglm_fake_cuda_fail", fail);
    find("autoglm_fake_cuda_count", count);
    find("autoglm_fake_cuda_reset", reset);
    reset();
  }
  ~FakeDriver() { reset(); }

  decltype(&autoglm_fake_cuda_set) set = nullptr;
  decltype(&autoglm_fake_cuda_fail) fail = nullptr;
  decltype(&autoglm_fake_cuda_count) count = nullptr;
  decltype(&autoglm_fake_cuda_reset) reset = nullptr;

 private:
  template <typename Function>
  void find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
  }
  void* library_;
};

}  // namespace autoglm::test
