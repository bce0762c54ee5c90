// Goal: packed weights on disk are never taken for what the kernels read when they are not.
// Method: the bytes that quant/ makes of fixed weights are known here. When a change of layout or rounding
// makes this fail, raise Abi.packedLayoutVersion in native/base/step_records.def, then take over the hashes
// it prints.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/hash64.h"
#include "packed_weights.h"
#include "runtime/step_records.h"

namespace autoglm::test {
namespace {

constexpr int64_t kNumRows = 40;  // the last panel is not full
constexpr int64_t kNumCols = 256;

struct Hashes {
  uint64_t fast;
  uint64_t exact;
};

const std::map<StoredFormat, Hashes> kKnown = {
    {StoredFormat::f32, {0x55f86ffc1d53f04b, 0x55f86ffc1d53f04b}},
    {StoredFormat::f16, {0x1ce08b046aec76e4, 0x1ce08b046aec76e4}},
    {StoredFormat::bf16, {0x46b70d07a915fdd3, 0x46b70d07a915fdd3}},
    {StoredFormat::f64, {0x3d84ab7590df45c8, 0x3d84ab7590df45c8}},
    {StoredFormat::q4_0, {0x1721b29921d03c44, 0x1721b29921d03c44}},
    {StoredFormat::q4_1, {0x9710a7792862adff, 0x9710a7792862adff}},
    {StoredFormat::q5_0, {0xba77fc9d90401c08, 0xba77fc9d90401c08}},
    {StoredFormat::q5_1, {0x32df87f009d8134a, 0x32df87f009d8134a}},
    {StoredFormat::q8_0, {0x80c74fb3aaa75050, 0x80c74fb3aaa75050}},
    {StoredFormat::iq4_nl, {0x6f2ea198296715cd, 0x6f2ea198296715cd}},
    {StoredFormat::mxfp4, {0x3e776bdfb121b1fc, 0x65cd176fa64dadb7}},
    {StoredFormat::q2_k, {0x39a2f96c4ab153c1, 0x20dea61c3fa5cc83}},
    {StoredFormat::q3_k, {0xc01e90c59509eb5e, 0xc4e4b2e0d9bc378d}},
    {StoredFormat::q4_k, {0x5a8685eb8072f60d, 0x5b41a86b6070c579}},
    {StoredFormat::q5_k, {0x58bcc543fc96279e, 0x7323aacffb94579d}},
    {StoredFormat::q6_k, {0x2c2a6943798ec589, 0xb53948f0d096a2bb}},
    {StoredFormat::iq4_xs, {0xfad8d3ea833924db, 0xf17dac79583ba29b}},
};

uint64_t hash_packed(StoredFormat format, Precision precision) {
  Random random(3);
  const PackedWeights weights = random_weights(random, format, precision, kNumRows, kNumCols);
  Hash64 hash;
  hash.add(weights.memory->bytes());
  return hash.value();
}

TEST(PackedLayout, ChangesOnlyWithItsVersion) {
  EXPECT_EQ(abi::Abi::packedLayoutVersion, 1);
  for (const auto& [format, known] : kKnown) {
    const Hashes found = {hash_packed(format, Precision::fast), hash_packed(format, Precision::exact)};
    EXPECT_TRUE(found.fast == known.fast && found.exact == known.exact)
        << "    {StoredFormat::" << info_of(format).name << ", {0x" << std::hex << found.fast << ", 0x"
        << found.exact << "}},";
  }
}

}  // namespace
}  // namespace autoglm::test
