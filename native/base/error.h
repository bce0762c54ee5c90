// The one exception of the native half. addon/ turns it into JavaScript; nothing below catches it except to
// add context.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace autoglm {

enum class ErrorCode : uint8_t {
#define AUTOGLM_ERROR_CODE(name) name,
#include "base/error_codes.def"
#undef AUTOGLM_ERROR_CODE
};

inline constexpr std::string_view kErrorCodeNames[] = {
#define AUTOGLM_ERROR_CODE(name) #name,
#include "base/error_codes.def"
#undef AUTOGLM_ERROR_CODE
};

constexpr std::string_view name_of(ErrorCode code) { return kErrorCodeNames[static_cast<int>(code)]; }

class Error : public std::runtime_error {
 public:
  // The message says what was expected, what was found, and where.
  Error(ErrorCode error_code, const std::string& message) : std::runtime_error(message), code(error_code) {}

  ErrorCode code;
};

}  // namespace autoglm
