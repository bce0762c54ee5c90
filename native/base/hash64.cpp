#include "base/hash64.h"

#include <bit>
#include <cstring>

namespace autoglm {
namespace {

// The specification's five primes.
constexpr uint64_t kPrime1 = 0x9e3779b185ebca87;
constexpr uint64_t kPrime2 = 0xc2b2ae3d27d4eb4f;
constexpr uint64_t kPrime3 = 0x165667b19e3779f9;
constexpr uint64_t kPrime4 = 0x85ebca77c2b2ae63;
constexpr uint64_t kPrime5 = 0x27d4eb2f165667c5;

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

template <typename Word>
uint64_t load(const std::byte* from) {
  Word word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

uint64_t round(uint64_t lane, uint64_t word) { return std::rotl(lane + word * kPrime2, 31) * kPrime1; }

uint64_t merge(uint64_t hash, uint64_t lane) { return (hash ^ round(0, lane)) * kPrime1 + kPrime4; }

// What is left after the last whole stripe: words, half words, bytes.
uint64_t add_tail(uint64_t hash, const std::byte* at, size_t size) {
  const std::byte* const end = at + size;
  for (; end - at >= 8; at += 8) {
    hash = std::rotl(hash ^ round(0, load<uint64_t>(at)), 27) * kPrime1 + kPrime4;
  }
  if (end - at >= 4) {
    hash = std::rotl(hash ^ load<uint32_t>(at) * kPrime1, 23) * kPrime2 + kPrime3;
    at += 4;
  }
  for (; at < end; ++at) hash = std::rotl(hash ^ load<uint8_t>(at) * kPrime5, 11) * kPrime1;
  return hash;
}

}  // namespace

void Hash64::add(std::span<const std::byte> bytes) {
  num_bytes_ += bytes.size();
  auto [a, b, c, d] = lanes_;
  const std::byte* at = bytes.data();
  const std::byte* const end = at + bytes.size() / kStripe * kStripe;
  for (; at < end; at += kStripe) {
    a = round(a, load<uint64_t>(at));
    b = round(b, load<uint64_t>(at + 8));
    c = round(c, load<uint64_t>(at + 16));
    d = round(d, load<uint64_t>(at + 24));
  }
  lanes_ = {a, b, c, d};
  tail_size_ = bytes.size() % kStripe;
  if (tail_size_ > 0) std::memcpy(tail_.data(), at, tail_size_);
}

uint64_t Hash64::value() const {
  const auto [a, b, c, d] = lanes_;
  uint64_t hash = kPrime5;
  if (num_bytes_ >= kStripe) {
    hash = std::rotl(a, 1) + std::rotl(b, 7) + std::rotl(c, 12) + std::rotl(d, 18);
    for (const uint64_t lane : {a, b, c, d}) hash = merge(hash, lane);
  }
  hash = add_tail(hash + num_bytes_, tail_.data(), tail_size_);
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

}  // namespace autoglm
