// Number formats, once for every native file: the enums of base/formats.def with their sizes and names.
#pragma once

#include <cstdint>
#include <string_view>

namespace autoglm {

// What the kernels read. See base/packed_matrix.h for the bytes.
enum class ComputeLayout : uint8_t {
#define AUTOGLM_COMPUTE_LAYOUT(name) name,
#include "base/formats.def"
#undef AUTOGLM_COMPUTE_LAYOUT
};

// What model files hold.
enum class StoredFormat : uint8_t {
#define AUTOGLM_STORED_FORMAT(name, ...) name,
#define AUTOGLM_CODE_FORMAT(name, ...) name,
#include "base/formats.def"
#undef AUTOGLM_STORED_FORMAT
#undef AUTOGLM_CODE_FORMAT
};

// What the scales, zeros and group numbers of a quantized matrix are stored as.
enum class ComponentDtype : uint8_t {
#define AUTOGLM_COMPONENT_DTYPE(name, bytes) name,
#include "base/formats.def"
#undef AUTOGLM_COMPONENT_DTYPE
};

enum class KvDtype : uint8_t {
#define AUTOGLM_KV_DTYPE(name, ...) name,
#include "base/formats.def"
#undef AUTOGLM_KV_DTYPE
};

enum class Activation : uint8_t {
#define AUTOGLM_ACTIVATION(name) name,
#include "base/formats.def"
#undef AUTOGLM_ACTIVATION
};

enum class NormKind : uint8_t { rms, layer };

// How a mixture of experts turns its router's products into scores: over all experts, or each by itself.
enum class RouterScore : uint8_t { softmax, sigmoid };

// interleaved rotates the pairs (2i, 2i + 1); half_split the pairs (i, i + rotary_dim / 2).
enum class RopeStyle : uint8_t { interleaved, half_split };

// fast: int8 activations per group of 32 for quantized weights. exact: f32 activations and unrounded weights.
enum class Precision : uint8_t { fast, exact };

// Element type of the scales and mins of a quantized layout.
enum class ScaleType : uint8_t { f16, f32 };

struct StoredFormatInfo {
  std::string_view name;
  int64_t elements_per_block;
  int64_t bytes_per_block;
  ComputeLayout layout;
  int scales_per_group;  // 0 for floats
  bool has_min;
  ScaleType exact_scales;  // f32 where a scale is a product of two
};

inline constexpr StoredFormatInfo kStoredFormats[] = {
#define AUTOGLM_STORED_FORMAT(name, elements, bytes, layout, num_scales, has_min, scales) \
  {#name, elements, bytes, ComputeLayout::layout, num_scales, has_min, ScaleType::scales},
#define AUTOGLM_CODE_FORMAT(name, codes, bytes, layout) \
  {#name, codes, bytes, ComputeLayout::layout, 1, true, ScaleType::f32},
#include "base/formats.def"
#undef AUTOGLM_STORED_FORMAT
#undef AUTOGLM_CODE_FORMAT
};

inline constexpr std::string_view kComputeLayoutNames[] = {
#define AUTOGLM_COMPUTE_LAYOUT(name) #name,
#include "base/formats.def"
#undef AUTOGLM_COMPUTE_LAYOUT
};

inline constexpr int64_t kComponentDtypeBytes[] = {
#define AUTOGLM_COMPONENT_DTYPE(name, bytes) bytes,
#include "base/formats.def"
#undef AUTOGLM_COMPONENT_DTYPE
};

struct KvDtypeInfo {
  std::string_view name;
  int64_t bytes;
  int64_t scale_bytes;
};

inline constexpr KvDtypeInfo kKvDtypes[] = {
#define AUTOGLM_KV_DTYPE(name, bytes, scale_bytes) {#name, bytes, scale_bytes},
#include "base/formats.def"
#undef AUTOGLM_KV_DTYPE
};

constexpr const StoredFormatInfo& info_of(StoredFormat format) {
  return kStoredFormats[static_cast<int>(format)];
}
constexpr std::string_view name_of(ComputeLayout layout) {
  return kComputeLayoutNames[static_cast<int>(layout)];
}
// True when the scales lie in tensors of their own.
constexpr bool is_code_format(StoredFormat format) { return format >= StoredFormat::f8_e4m3; }
constexpr int64_t bytes_of(ComponentDtype dtype) { return kComponentDtypeBytes[static_cast<int>(dtype)]; }
constexpr const KvDtypeInfo& info_of(KvDtype dtype) { return kKvDtypes[static_cast<int>(dtype)]; }
constexpr int64_t bytes_of(KvDtype dtype) { return info_of(dtype).bytes; }

}  // namespace autoglm
