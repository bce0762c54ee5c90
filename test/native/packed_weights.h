// Random stored weights and their packed form, with the memory that holds both.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "base/half.h"
#include "quant/packed_matrix.h"
#include "quant/repack.h"
#include "random_values.h"

namespace autoglm::test {

// Memory aligned as the arenas are.
class AlignedBytes {
 public:
  explicit AlignedBytes(int64_t size) : storage_(size + 64), size_(size) {
    const auto address = reinterpret_cast<uintptr_t>(storage_.data());
    data_ = storage_.data() + (64 - address % 64) % 64;
  }
  std::span<std::byte> bytes() { return {data_, static_cast<size_t>(size_)}; }

 private:
  std::vector<std::byte> storage_;
  std::byte* data_;
  int64_t size_;
};

inline void put_half(std::vector<std::byte>& bytes, int64_t at, float value) {
  const uint16_t half = float_to_half(value);
  std::memcpy(bytes.data() + at, &half, 2);
}

// Bytes of [n, k] weights of about `size`: random codes, scales that are plausible for the format.
inline std::vector<std::byte> random_stored(Random& random, StoredFormat format, int64_t n, int64_t k,
                                            float size) {
  const StoredFormatInfo& info = info_of(format);
  const int64_t num_blocks = n * k / info.elements_per_block;
  const std::vector<uint8_t> codes = random.bytes(num_blocks * info.bytes_per_block);
  std::vector<std::byte> out(codes.size());
  std::memcpy(out.data(), codes.data(), codes.size());
  for (int64_t block = 0; block < num_blocks; ++block) {
    const int64_t at = block * info.bytes_per_block;
    const float spread = random.uniform(0.5f, 1) * (random.below(2) == 0 ? size : -size);
    switch (format) {
      case StoredFormat::f32: {
        const float value = size * random.normal();
        std::memcpy(out.data() + at, &value, 4);
        break;
      }
      case StoredFormat::f16:
        put_half(out, at, size * random.normal());
        break;
      case StoredFormat::bf16: {
        const float value = size * random.normal();
        std::memcpy(out.data() + at, reinterpret_cast<const char*>(&value) + 2, 2);
        break;
      }
      case StoredFormat::f64: {
        const double value = size * random.normal();
        std::memcpy(out.data() + at, &value, 8);
        break;
      }
      case StoredFormat::q4_0:
        put_half(out, at, spread / 8);
        break;
      case StoredFormat::q5_0:
        put_half(out, at, spread / 16);
        break;
      case StoredFormat::q4_1:
      case StoredFormat::q5_1:
        put_half(out, at, spread / (format == StoredFormat::q4_1 ? 8 : 16));
        put_half(out, at + 2, random.uniform(-size, size));
        break;
      case StoredFormat::iq4_nl:
        put_half(out, at, spread / 113);
        break;
      case StoredFormat::mxfp4:
        // 2^(e - 127) times 6 at most.
        out[at] = static_cast<std::byte>(127 + std::ilogb(spread / 6) - random.below(8));
        break;
      case StoredFormat::q2_k:
        put_half(out, at + 80, spread / (2 * 15));
        put_half(out, at + 82, random.uniform(-size, size) / 15);
        break;
      case StoredFormat::q3_k:
        put_half(out, at + 108, spread / (4 * 32));
        break;
      case StoredFormat::iq4_xs:
        put_half(out, at, spread / (113 * 32));
        break;
      case StoredFormat::q8_0:
        put_half(out, at, spread / 127);
        break;
      case StoredFormat::q4_k:
      case StoredFormat::q5_k:
        put_half(out, at, spread / ((format == StoredFormat::q4_k ? 8 : 16) * 63));
        put_half(out, at + 2, random.uniform(-size, size) / 63);
        break;
      case StoredFormat::q6_k:
        put_half(out, at + 208, spread / (32 * 127));
        break;
      default:
        break;  // code formats have no blocks
    }
  }
  return out;
}

// A packed matrix beside its values as floats, [n, k].
struct PackedWeights {
  std::vector<float> values;
  std::unique_ptr<AlignedBytes> memory;
  PackedMatrix matrix;
};

inline PackedWeights random_weights(Random& random, StoredFormat format, Precision precision, int64_t n,
                                    int64_t k, float size = 0.1f) {
  const std::vector<std::byte> stored = random_stored(random, format, n, k, size);
  PackedWeights out;
  out.values.resize(n * k);
  dequantize_stored(format, stored, out.values);
  const PackedFormat packed = choose_packed_format(format, precision);
  out.memory = std::make_unique<AlignedBytes>(packed_matrix_bytes(packed, n, k));
  out.matrix = make_packed_matrix(packed, precision, n, k, out.memory->bytes());
  const StoredRows rows = {.format = format, .bytes = stored, .num_rows = n, .num_cols = k};
  pack_panels(out.matrix, {&rows, 1}, 0, out.matrix.num_panels());
  return out;
}

// Decoded groups, packed; the values are left at zero.
inline PackedWeights pack_groups(PackedFormat format, Precision precision, int64_t n, int64_t k,
                                 const std::vector<GroupCodes>& groups) {
  PackedWeights out;
  out.values.resize(n * k);
  out.memory = std::make_unique<AlignedBytes>(packed_matrix_bytes(format, n, k));
  out.matrix = make_packed_matrix(format, precision, n, k, out.memory->bytes());
  const StoredRows rows = {.num_rows = n, .num_cols = k, .groups = groups};
  pack_panels(out.matrix, {&rows, 1}, 0, out.matrix.num_panels());
  return out;
}

// Random decoded groups and their packed form: every quantized format there is, also those of no stored
// format.
inline PackedWeights random_group_weights(Random& random, PackedFormat format, Precision precision, int64_t n,
                                          int64_t k, float size = 0.1f) {
  std::vector<float> values(n * k);
  std::vector<GroupCodes> groups(n * k / kGroup);
  const int bits = format.layout == ComputeLayout::q8 ? 8 : format.layout == ComputeLayout::q6 ? 6 : 4;
  for (size_t i = 0; i < groups.size(); ++i) {
    GroupCodes& group = groups[i];
    for (int part = 0; part < 2; ++part) {
      const bool is_shared = part == 1 && format.scales_per_group == 1;
      // Halves, so that packing rounds nothing.
      const float scale =
          half_to_float(float_to_half(random.uniform(0.5f, 1) * size / static_cast<float>(1 << bits)));
      const float min = half_to_float(float_to_half(random.uniform(-size, size)));
      group.scales[part] = is_shared ? group.scales[0] : scale;
      group.mins[part] = is_shared ? group.mins[0] : min;
    }
    for (int j = 0; j < kGroup; ++j) {
      group.codes[j] = static_cast<uint8_t>(random.below(1 << bits));
      const int value = code_value(format.layout, format.has_min, group.codes[j]);
      const float min = format.has_min ? group.mins[j / 16] : 0;
      values[i * kGroup + j] = static_cast<float>(value) * group.scales[j / 16] + min;
    }
  }
  PackedWeights out = pack_groups(format, precision, n, k, groups);
  out.values = std::move(values);
  return out;
}

}  // namespace autoglm::test
