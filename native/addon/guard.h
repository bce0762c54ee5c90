// Where C++ errors become JavaScript errors: plain Error objects with a `code` of base/error_codes.def.
#pragma once

#include <napi.h>

#include <exception>
#include <new>

#include "base/error.h"

namespace autoglm::addon {

// The JavaScript value of a failure; `lib/native/native-error.ts` gives it its class.
Napi::Value to_js_error(Napi::Env env, ErrorCode code, const char* message);

// Turns the exception in flight into an Error. Call inside a catch clause only.
Error current_error();

template <typename Body>
Napi::Value guard(const Napi::CallbackInfo& info, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;  // a JavaScript exception already: node-addon-api hands it on
  } catch (...) {
    const Error error = current_error();
    throw Napi::Error(info.Env(), to_js_error(info.Env(), error.code, error.what()));
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
    const Error error = current_error();
    const auto deferred = Napi::Promise::Deferred::New(info.Env());
    deferred.Reject(to_js_error(info.Env(), error.code, error.what()));
    return deferred.Promise();
  }
}

}  // namespace autoglm::addon
