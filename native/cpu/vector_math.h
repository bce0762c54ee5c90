// Elementary functions on vectors. S is one of Plain, Avx2, Avx512.
#pragma once

#include <cstdint>

namespace autoglm::cpu {
namespace {

constexpr float kLog2E = 1.44269504088896341f;

// 2^x for x in [-0.5, 0.5]: a minimax fit, relative error 2e-9 before rounding.
template <typename S>
inline typename S::Float exp2_of_fraction(typename S::Float fraction) {
  typename S::Float power = S::broadcast(1.53458116e-4f);
  power = S::fma(power, fraction, S::broadcast(1.33999312e-3f));
  power = S::fma(power, fraction, S::broadcast(9.61848896e-3f));
  power = S::fma(power, fraction, S::broadcast(5.55032878e-2f));
  power = S::fma(power, fraction, S::broadcast(0.240226469f));
  power = S::fma(power, fraction, S::broadcast(0.693147206f));
  return S::fma(power, fraction, S::broadcast(1));
}

// 2^x, relative error below 2e-7: 0 below -126 (subnormal results are flushed), infinity from 128 on.
template <typename S>
inline typename S::Float exp2(typename S::Float x) {
  using Float = typename S::Float;
  // The second operand is the one a NaN survives in.
  const Float clamped = S::min(S::broadcast(128), S::max(S::broadcast(-126), x));
  const typename S::Int whole = S::to_int(clamped);
  const Float power = exp2_of_fraction<S>(S::sub(clamped, S::to_float(whole)));
  // 2^128 does not exist: half of the exponent twice, in two exact products.
  const typename S::Int low = S::template shift_right_signed<1>(whole);
  const typename S::Int bias = S::broadcast_int(127);
  const Float low_power = S::from_bits(S::template shift_left<23>(S::add_int(low, bias)));
  const Float high_power = S::from_bits(S::template shift_left<23>(S::add_int(S::sub_int(whole, low), bias)));
  return S::zero_below(S::mul(S::mul(power, low_power), high_power), x, S::broadcast(-126));
}

// The same for x <= 0, whose results need no more than one addition to the exponent: 0 below -125.
template <typename S>
inline typename S::Float exp2_of_negative(typename S::Float x) {
  using Float = typename S::Float;
  const Float clamped = S::max(S::broadcast(-125), x);
  const typename S::Int whole = S::to_int(clamped);
  const Float power = exp2_of_fraction<S>(S::sub(clamped, S::to_float(whole)));
  const Float scaled = S::from_bits(S::add_int(S::bits_of(power), S::template shift_left<23>(whole)));
  return S::zero_below(scaled, x, S::broadcast(-125));
}

template <typename S>
inline typename S::Float sigmoid(typename S::Float x) {
  const auto decay = exp2<S>(S::mul(x, S::broadcast(-kLog2E)));
  return S::div(S::broadcast(1), S::add(S::broadcast(1), decay));
}

// Absolute error below 2e-7.
template <typename S>
inline typename S::Float tanh(typename S::Float x) {
  const auto growth = exp2<S>(S::mul(S::abs(x), S::broadcast(2 * kLog2E)));
  const auto magnitude = S::sub(S::broadcast(1), S::div(S::broadcast(2), S::add(growth, S::broadcast(1))));
  return S::copy_sign(magnitude, x);
}

// Absolute error below 1e-7: 1 - 2^p(|x|), where p is a fit of log2(erfc) on [0, 4] that is exact at 0.
template <typename S>
inline typename S::Float erf(typename S::Float x) {
  const auto size = S::min(S::broadcast(4), S::abs(x));
  auto exponent = S::broadcast(1.16045293e-5f);
  exponent = S::fma(exponent, size, S::broadcast(-1.52961903e-4f));
  exponent = S::fma(exponent, size, S::broadcast(8.48225686e-4f));
  exponent = S::fma(exponent, size, S::broadcast(-2.27476952e-3f));
  exponent = S::fma(exponent, size, S::broadcast(8.47887624e-5f));
  exponent = S::fma(exponent, size, S::broadcast(2.77244857e-2f));
  exponent = S::fma(exponent, size, S::broadcast(-0.148307914f));
  exponent = S::fma(exponent, size, S::broadcast(-0.9184429f));
  exponent = S::fma(exponent, size, S::broadcast(-1.62790727f));
  const auto complement = exp2<S>(S::mul(exponent, size));
  return S::copy_sign(S::sub(S::broadcast(1), complement), x);
}

}  // namespace
}  // namespace autoglm::cpu
