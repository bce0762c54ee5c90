// Seeded values for tests: the same on every machine and standard library.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace autoglm::test {

// Source: splitmix64, Steele, Lea and Flood 2014. test/fixtures/make_quant_blocks.py draws the same numbers.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  int64_t below(int64_t limit) { return static_cast<int64_t>(next() % static_cast<uint64_t>(limit)); }
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(next() >> 40) * 0x1p-24f;
  }
  // Close enough to a normal distribution: the sum of twelve uniform values.
  float normal() {
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform(0, 1);
    return sum;
  }
  std::vector<float> normals(int64_t count, float scale = 1) {
    std::vector<float> out(count);
    for (float& each : out) each = scale * normal();
    return out;
  }
  std::vector<uint8_t> bytes(int64_t count) {
    std::vector<uint8_t> out(count);
    for (int64_t i = 0; i < count; i += 8) {
      const uint64_t word = next();
      std::memcpy(out.data() + i, &word, static_cast<size_t>(count - i < 8 ? count - i : 8));
    }
    return out;
  }

 private:
  uint64_t state_;
};

}  // namespace autoglm::test
