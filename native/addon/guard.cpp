#include "addon/guard.h"

#include <system_error>

namespace autoglm::addon {

Napi::Value to_js_error(Napi::Env env, ErrorCode code, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  const std::string_view name = name_of(code);
  error.Set("code", Napi::String::New(env, name.data(), name.size()));
  return error.Value();
}

Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::out_of_memory, "out of memory");
  } catch (const std::system_error& error) {
    // The threads library reports with this that no further thread can be started.
    return Error(ErrorCode::out_of_memory, error.what());
  } catch (const std::exception& error) {
    return Error(ErrorCode::internal, error.what());
  }
}

}  // namespace autoglm::addon
