// A JavaScript value kept alive. To be destroyed on the environment's own thread.
#pragma once

#include <node_api.h>

#include <utility>

namespace autoglm::addon {

class Reference {
 public:
  Reference() = default;
  Reference(napi_env env, napi_value value) : env_(env) {
    if (napi_create_reference(env, value, 1, &reference_) != napi_ok) reference_ = nullptr;
  }
  Reference(Reference&& other) noexcept
      : env_(other.env_), reference_(std::exchange(other.reference_, nullptr)) {}
  Reference& operator=(Reference&& other) noexcept {
    std::swap(env_, other.env_);
    std::swap(reference_, other.reference_);
    return *this;
  }
  ~Reference() {
    if (reference_ != nullptr) napi_delete_reference(env_, reference_);
  }

  // Null when the environment refuses, because it is ending.
  napi_value value() const {
    napi_value result = nullptr;
    if (reference_ == nullptr || napi_get_reference_value(env_, reference_, &result) != napi_ok)
      return nullptr;
    return result;
  }

 private:
  napi_env env_ = nullptr;
  napi_ref reference_ = nullptr;
};

}  // namespace autoglm::addon
