// Where C++ errors become JavaScript errors: plain Error objects with a `code` of base/error_codes.def.
#pragma once

#include <napi.h>

namespace autoglm::addon {

// The JavaScript error of the exception in flight, to be called inside a catch clause;
// lib/native/native-error.ts gives it its class. Copies no exception: memory may be what has run out.
Napi::Value current_js_error(Napi::Env env);

template <typename Body>
Napi::Value guard(const Napi::CallbackInfo& info, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;  // a JavaScript exception already: node-addon-api hands it on
  } catch (...) {
    throw Napi::Error(info.Env(), current_js_error(info.Env()));
  }
}

// The same for functions that return a promise: it is rejected instead.
template <typename Body>
Napi::Value guard_promise(const Napi::CallbackInfo& info, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    const auto deferred = Napi::Promise::Deferred::New(info.Env());
    deferred.Reject(current_js_error(info.Env()));
    return deferred.Promise();
  }
}

}  // namespace autoglm::addon
