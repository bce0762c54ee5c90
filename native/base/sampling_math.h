// What a draw computes, the same bit for bit on every processor: weights of tokens by additions and products
// alone, sums of weights as integers, whose order does not matter, and comparisons of integers.
#pragma once

#include <bit>
#include <cfloat>
#include <cstdint>

namespace autoglm {

// A weight is exp((logit - largest logit) / temperature), the likeliest token's being 1. Sums hold it in
// units of 2^-37, to nearest even: a token less likely than the likeliest by 2^38 or more is never drawn, and
// the 2^20 tokens of the largest vocabulary weigh less than 2^58. 37 and not more, so that 2^13 weights, the
// slice of a GPU's block, can be summed as two halves of 32 bits.
inline constexpr int kWeightBits = 37;
inline constexpr float kUnitWeight = 0x1p37F;
// Tokens this many factors of 2 below the likeliest one weigh 0.
inline constexpr float kMaxOctaves = 39;

// Factors of 2 in weight per unit of logit.
constexpr float octaves_per_logit(float temperature) {
  constexpr float kLog2E = 1.44269504F;
  const float octaves = kLog2E / temperature;
  return octaves < FLT_MAX ? octaves : FLT_MAX;  // temperatures next to 0: 0 * infinity would be NaN
}

// 2^octaves in units of 2^-37, not yet rounded to a whole number of them, for octaves <= 0. Relative error
// below 2e-7; exactly 2^37 for 0. Float and Bits are float and uint32_t, or vectors of them.
// Source: range reduction to |rest| <= 1/2, then the polynomial of degree 5 that is 1 at 0 and has the least
// largest relative error (Remez exchange), its coefficients times 2^37.
template <typename Float, typename Bits>
constexpr Float weight_of_octaves(Float octaves) {
  const Float round = Float{} + 0x1.8p23F;  // adding it rounds to an integer and leaves that in the low bits
  const Float shifted = octaves + round;
  const Float rest = octaves - (shifted - round);
  Float power = rest * (1.3264729641e-3F * kUnitWeight) + 9.6715129912e-3F * kUnitWeight;
  power = power * rest + 5.5507335812e-2F * kUnitWeight;
  power = power * rest + 2.4022242427e-1F * kUnitWeight;
  power = power * rest + 6.9314700367e-1F * kUnitWeight;
  power = power * rest + kUnitWeight;
  const Float weight =
      std::bit_cast<Float>(std::bit_cast<Bits>(power) + (std::bit_cast<Bits>(shifted) << 23));
  return octaves < Float{} - kMaxOctaves ? Float{} : weight;
}

// A weight in whole units, as sums take it. For 0 <= weight <= 2^37.
constexpr uint64_t whole_weight(float weight) {
  constexpr float kFirstWhole = 0x1p23F;  // floats from here on are whole
  if (weight < kFirstWhole) {
    return std::bit_cast<uint32_t>(weight + kFirstWhole) - std::bit_cast<uint32_t>(kFirstWhole);
  }
  const auto bits = std::bit_cast<uint32_t>(weight);
  const uint32_t mantissa = (bits & 0x7fffffU) | 0x800000U;
  return uint64_t{mantissa} << ((bits >> 23) - 150);
}

// The least weight that min-p keeps.
constexpr uint64_t least_weight(float min_p) { return whole_weight(min_p * kUnitWeight); }

// What the likeliest tokens that top-p keeps must weigh at least: p * mass rounded up, and at least 1. For p
// < 1 and mass < 2^58.
constexpr uint64_t mass_to_keep(float top_p, uint64_t mass) {
  const auto share = static_cast<uint64_t>(top_p * 0x1p32F);
  const uint64_t high = (mass >> 32) * share;
  const uint64_t low = ((mass & 0xffffffffU) * share + 0xffffffffU) >> 32;
  return high + low > 0 ? high + low : 1;
}

// bits * mass / 2^64 rounded down: below `mass` as `bits` is below 2^64. The token drawn is the first, by id,
// up to which kept tokens weigh more.
constexpr uint64_t drawn_mass(uint64_t bits, uint64_t mass) {
  const uint64_t bits_high = bits >> 32;
  const uint64_t bits_low = bits & 0xffffffffU;
  const uint64_t mass_high = mass >> 32;
  const uint64_t mass_low = mass & 0xffffffffU;
  const uint64_t middle = bits_high * mass_low + (bits_low * mass_low >> 32);
  return bits_high * mass_high + (middle >> 32) + ((bits_low * mass_high + (middle & 0xffffffffU)) >> 32);
}

// Greater for likelier tokens, and of equally likely ones for the lower id: what is kept never depends on the
// order of a sort. Any number but NaN has a place.
constexpr uint64_t likelihood_rank(float logit, uint32_t token) {
  const auto bits = std::bit_cast<uint32_t>(logit + 0.0F);  // -0 becomes 0
  const uint32_t key = (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
  return uint64_t{key} << 32 | (0xffffffffU - token);
}
constexpr uint32_t token_of_rank(uint64_t rank) { return 0xffffffffU - static_cast<uint32_t>(rank); }
constexpr float logit_of_rank(uint64_t rank) {
  const auto key = static_cast<uint32_t>(rank >> 32);
  return std::bit_cast<float>((key >> 31) != 0 ? key & 0x7fffffffU : ~key);
}

constexpr float to_finite(float value) {
  return value > FLT_MAX ? FLT_MAX : value < -FLT_MAX ? -FLT_MAX : value;
}
constexpr float biased_logit(float logit, float bias) { return to_finite(logit + bias); }

// Of a token that occurs in the row's history. Sources: repetition penalty, Keskar et al., "CTRL" (2019),
// section 4.1; presence and frequency penalties, OpenAI's API reference.
struct Penalties {
  float repetition = 1;
  float presence = 0;
  float frequency = 0;
};
constexpr float penalized_logit(float logit, const Penalties& penalties, int32_t num_in_output) {
  logit = logit > 0 ? logit / penalties.repetition : logit * penalties.repetition;
  if (num_in_output > 0) {
    logit -= penalties.presence;
    logit -= penalties.frequency * static_cast<float>(num_in_output);
  }
  return to_finite(logit);
}

}  // namespace autoglm
