#include "quant/group_codes.h"

#include <algorithm>

#include "quant/stored_blocks.h"

namespace autoglm {
namespace {

float half_at(const std::byte* from) { return half_to_float(load_u16(from)); }

int byte_at(const std::byte* from, int64_t index) { return static_cast<int>(from[index]); }

void set_scale(GroupCodes& out, float scale) { out.scales[0] = out.scales[1] = scale; }
void set_min(GroupCodes& out, float min) { out.mins[0] = out.mins[1] = min; }

// Byte j holds weights j and j + 16.
void split_nibbles(const std::byte* bytes, GroupCodes& out) {
  for (int i = 0; i < 16; ++i) {
    out.codes[i] = static_cast<uint8_t>(byte_at(bytes, i) & 15);
    out.codes[i + 16] = static_cast<uint8_t>(byte_at(bytes, i) >> 4);
  }
}

// The nibbles of 32 bytes, all low or all high: two groups share the bytes.
void half_nibbles(const std::byte* bytes, int shift, GroupCodes& out) {
  for (int i = 0; i < 32; ++i) out.codes[i] = static_cast<uint8_t>(byte_at(bytes, i) >> shift & 15);
}

void decode_q4_0(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group * 18;
  split_nibbles(block + 2, out);
  set_scale(out, half_at(block));
}

void decode_q4_1(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group * 20;
  split_nibbles(block + 4, out);
  set_scale(out, half_at(block));
  set_min(out, half_at(block + 2));
}

// Bit i of a word is bit 4 of weight i.
void add_fifth_bits(uint32_t bits, int offset, GroupCodes& out) {
  for (int i = 0; i < 32; ++i) {
    out.codes[i] =
        static_cast<uint8_t>((out.codes[i] | (bits >> i & 1) << 4) + static_cast<uint32_t>(offset));
  }
}

void decode_q5_0(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group * 22;
  split_nibbles(block + 6, out);
  add_fifth_bits(load_u32(block + 2), 16, out);  // the zero of 5 bits is 16, of q6 32
  set_scale(out, half_at(block));
}

void decode_q5_1(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group * 24;
  split_nibbles(block + 8, out);
  add_fifth_bits(load_u32(block + 4), 0, out);
  set_scale(out, half_at(block));
  set_min(out, half_at(block + 2));
}

void decode_q8_0(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group * 34;
  std::memcpy(out.codes, block + 2, sizeof(out.codes));
  set_scale(out, half_at(block));
}

void decode_iq4_nl(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group * 18;
  split_nibbles(block + 2, out);
  set_scale(out, half_at(block));
}

void decode_mxfp4(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group * 17;
  split_nibbles(block + 1, out);
  set_scale(out, half_of_e8m0(static_cast<uint8_t>(block[0])));
}

void decode_q2_k(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group / 8 * 84;
  const int in_block = static_cast<int>(group % 8);
  const std::byte* bytes = block + 16 + in_block / 4 * 32;
  for (int i = 0; i < 32; ++i) {
    out.codes[i] = static_cast<uint8_t>(byte_at(bytes, i) >> 2 * (in_block % 4) & 3);
  }
  for (int part = 0; part < 2; ++part) {
    const int sub_scale = byte_at(block, 2 * in_block + part);
    out.scales[part] = half_at(block + 80) * static_cast<float>(sub_scale & 15);
    out.mins[part] = -(half_at(block + 82) * static_cast<float>(sub_scale >> 4));
  }
}

void decode_q3_k(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group / 8 * 110;
  const int in_block = static_cast<int>(group % 8);
  const std::byte* low = block + 32 + in_block / 4 * 32;
  for (int i = 0; i < 32; ++i) {
    const int two_bits = byte_at(low, i) >> 2 * (in_block % 4) & 3;
    const int third_bit = byte_at(block, i) >> in_block & 1;
    out.codes[i] = static_cast<uint8_t>((two_bits | third_bit << 2) + 4);  // the zero of 3 bits is 4, of q4 8
  }
  for (int part = 0; part < 2; ++part) {
    out.scales[part] =
        half_at(block + 108) * static_cast<float>(q3_k_sub_scale(block + 96, 2 * in_block + part));
  }
}

// The scale and min of a Q4_K or Q5_K group.
void set_k_scales(const std::byte* block, int group, GroupCodes& out) {
  const SubScale sub = q4_k_sub_scale(block + 4, group);
  set_scale(out, half_at(block) * sub.scale);
  set_min(out, -(half_at(block + 2) * sub.min));
}

void decode_q4_k(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group / 8 * 144;
  const int in_block = static_cast<int>(group % 8);
  half_nibbles(block + 16 + in_block / 2 * 32, in_block % 2 * 4, out);
  set_k_scales(block, in_block, out);
}

void decode_q5_k(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group / 8 * 176;
  const int in_block = static_cast<int>(group % 8);
  half_nibbles(block + 48 + in_block / 2 * 32, in_block % 2 * 4, out);
  for (int i = 0; i < 32; ++i) {
    out.codes[i] = static_cast<uint8_t>(out.codes[i] | (byte_at(block, 16 + i) >> in_block & 1) << 4);
  }
  set_k_scales(block, in_block, out);
}

void decode_q6_k(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group / 8 * 210;
  const int in_block = static_cast<int>(group % 8);
  const int quarter = in_block % 4;
  half_nibbles(block + in_block / 4 * 64 + quarter % 2 * 32, quarter / 2 * 4, out);
  const std::byte* high = block + 128 + in_block / 4 * 32;
  for (int i = 0; i < 32; ++i) {
    out.codes[i] = static_cast<uint8_t>(out.codes[i] | (byte_at(high, i) >> 2 * quarter & 3) << 4);
  }
  for (int part = 0; part < 2; ++part) {
    const auto sub_scale = static_cast<int8_t>(block[192 + 2 * in_block + part]);
    out.scales[part] = half_at(block + 208) * sub_scale;
  }
}

void decode_iq4_xs(const std::byte* row, int64_t group, GroupCodes& out) {
  const std::byte* block = row + group / 8 * 136;
  const int in_block = static_cast<int>(group % 8);
  split_nibbles(block + 8 + in_block * 16, out);
  const int low = byte_at(block, 4 + in_block / 2) >> in_block % 2 * 4 & 15;
  const int high = load_u16(block + 2) >> 2 * in_block & 3;
  set_scale(out, half_at(block) * static_cast<float>((low | high << 4) - 32));
}

float float_element(StoredFormat format, const std::byte* from) {
  switch (format) {
    case StoredFormat::f16:
      return half_at(from);
    case StoredFormat::bf16:
      return bf16_to_float(load_u16(from));
    case StoredFormat::f64:
      return load_f64_as_float(from);
    default:
      return load_f32(from);
  }
}

}  // namespace

DecodeGroup decode_group_of(StoredFormat format) {
  switch (format) {
    case StoredFormat::q4_0:
      return decode_q4_0;
    case StoredFormat::q4_1:
      return decode_q4_1;
    case StoredFormat::q5_0:
      return decode_q5_0;
    case StoredFormat::q5_1:
      return decode_q5_1;
    case StoredFormat::q8_0:
      return decode_q8_0;
    case StoredFormat::iq4_nl:
      return decode_iq4_nl;
    case StoredFormat::mxfp4:
      return decode_mxfp4;
    case StoredFormat::q2_k:
      return decode_q2_k;
    case StoredFormat::q3_k:
      return decode_q3_k;
    case StoredFormat::q4_k:
      return decode_q4_k;
    case StoredFormat::q5_k:
      return decode_q5_k;
    case StoredFormat::q6_k:
      return decode_q6_k;
    case StoredFormat::iq4_xs:
      return decode_iq4_xs;
    default:
      return nullptr;
  }
}

void dequantize_block(StoredFormat format, const std::byte* block, float* out) {
  const DecodeGroup decode = decode_group_of(format);
  if (decode == nullptr) {
    *out = float_element(format, block);
    return;
  }
  const StoredFormatInfo& info = info_of(format);
  GroupCodes group = {};
  for (int64_t i = 0; i < info.elements_per_block; ++i) {
    if (i % kGroup == 0) decode(block, i / kGroup, group);
    const int value = code_value(info.layout, info.has_min, group.codes[i % kGroup]);
    const int64_t part = i % kGroup / (kGroup / 2);
    out[i] = static_cast<float>(value) * group.scales[part];
    if (info.has_min) out[i] += group.mins[part];
  }
}

}  // namespace autoglm
