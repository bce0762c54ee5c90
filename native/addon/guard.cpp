#include "addon/guard.h"

#include <exception>
#include <new>
#include <string_view>
#include <system_error>

#include "base/error.h"

namespace autoglm::addon {
namespace {

Napi::Value make_error(Napi::Env env, ErrorCode code, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  const std::string_view name = name_of(code);
  error.Set("code", Napi::String::New(env, name.data(), name.size()));
  return error.Value();
}

}  // namespace

Napi::Value current_js_error(Napi::Env env) {
  try {
    throw;
  } catch (const Error& error) {
    return make_error(env, error.code, error.what());
  } catch (const std::bad_alloc&) {
    return make_error(env, ErrorCode::out_of_memory, "out of memory");
  } catch (const std::system_error& error) {
    // How the threads library reports that no further thread can be started.
    return make_error(env, ErrorCode::out_of_memory, error.what());
  } catch (const std::exception& error) {
    return make_error(env, ErrorCode::internal, error.what());
  }
}

}  // namespace autoglm::addon
