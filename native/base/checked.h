// Arithmetic on sizes that came from outside: an overflow is an Error, never a wrapped number.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.h"

namespace autoglm {

[[noreturn]] inline void throw_overflow(const char* what) {
  throw Error(ErrorCode::invalid_parameter, std::string(what) + " does not fit in 64 bits");
}

// `what` names the quantity in the error, e.g. "bytes of layers.0.mlp.up".
[[nodiscard]] inline int64_t checked_add(int64_t left, int64_t right, const char* what) {
  int64_t sum = 0;
  if (__builtin_add_overflow(left, right, &sum)) throw_overflow(what);
  return sum;
}

[[nodiscard]] inline int64_t checked_mul(int64_t left, int64_t right, const char* what) {
  int64_t product = 0;
  if (__builtin_mul_overflow(left, right, &product)) throw_overflow(what);
  return product;
}

// Both need value >= 0 and unit > 0.
[[nodiscard]] constexpr int64_t ceil_div(int64_t value, int64_t unit) {
  return value / unit + (value % unit != 0 ? 1 : 0);
}

[[nodiscard]] inline int64_t checked_round_up(int64_t value, int64_t unit, const char* what) {
  return checked_mul(ceil_div(value, unit), unit, what);
}

}  // namespace autoglm
