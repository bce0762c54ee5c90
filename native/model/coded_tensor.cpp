#include "model/coded_tensor.h"

#include <algorithm>
#include <bit>
#include <string>

#include "base/checked.h"
#include "base/error.h"
#include "base/half.h"
#include "quant/stored_blocks.h"

namespace autoglm {
namespace {

bool is_gptq(StoredFormat format) {
  return format == StoredFormat::gptq_2 || format == StoredFormat::gptq_3 || format == StoredFormat::gptq_4 ||
         format == StoredFormat::gptq_8;
}

// Stored [in, out], as GPTQ and AWQ do.
bool is_columnar(StoredFormat format) { return is_gptq(format) || format == StoredFormat::awq_4; }

bool is_packed(StoredFormat format) {
  return format == StoredFormat::packed_2 || format == StoredFormat::packed_4 ||
         format == StoredFormat::packed_8 || format == StoredFormat::packed_e2m1;
}

std::string shape_text(int64_t rows, int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

float scale_at(ComponentDtype dtype, const std::byte* from) {
  switch (dtype) {
    case ComponentDtype::f16:
      return half_to_float(load_u16(from));
    case ComponentDtype::bf16:
      return bf16_to_float(load_u16(from));
    case ComponentDtype::f8_e8m0:
      return 2 * half_of_e8m0(static_cast<uint8_t>(*from));
    default:
      return load_f32(from);
  }
}

bool is_scale_type(ComponentDtype dtype) {
  return dtype != ComponentDtype::i32 && dtype != ComponentDtype::i8;
}

}  // namespace

CodeTraits code_traits(const WeightSource& source) {
  const Quantization& quantization = *source.quantization;
  return {.format = source.format,
          .num_cols = source.shape.back(),
          .group_cols = quantization.group_cols,
          .is_symmetric = quantization.is_symmetric,
          .has_ordered_groups = quantization.has_ordered_groups};
}

CodedTensor::CodedTensor(const NamedSource& named, int64_t num_cols, std::span<const WeightFile> files)
    : named_(named), files_(files), traits_(code_traits(*named.source)) {
  if (named.source->shape.size() != 2 || traits_.num_cols != num_cols || named.source->is_transposed) {
    refuse("is no matrix of " + std::to_string(num_cols) + " columns");
  }
  const Quantization& quantization = *named.source->quantization;
  if (quantization.first_row > quantization.num_stored_rows - named.num_rows) {
    refuse("takes rows from " + std::to_string(quantization.first_row) + " on of a matrix of " +
           std::to_string(quantization.num_stored_rows));
  }
  num_groups_ = ceil_div(num_cols, quantization.group_cols);
  check_codes();
  check_scales();
  check_zeros();
  find_groups();
}

int64_t CodedTensor::num_rows() const {
  const Quantization& quantization = *named_.source->quantization;
  return quantization.num_stored_rows - quantization.first_row;
}

void CodedTensor::refuse(const std::string& message) const {
  throw Error(ErrorCode::invalid_model_file,
              named_.role + " (" + std::string(info_of(traits_.format).name) + ") " + message);
}

void CodedTensor::check_codes() {
  const StoredFormatInfo& info = info_of(traits_.format);
  const int64_t num_stored_rows = named_.source->quantization->num_stored_rows;
  const int64_t along_words = traits_.format == StoredFormat::awq_4 ? num_stored_rows : traits_.num_cols;
  const int64_t across = traits_.format == StoredFormat::awq_4 ? traits_.num_cols : num_stored_rows;
  if (is_columnar(traits_.format) && along_words % info.elements_per_block != 0) {
    refuse("does not fill whole words of " + std::to_string(info.elements_per_block) + " codes");
  }
  const int64_t unit_bytes = is_packed(traits_.format)
                                 ? ceil_div(along_words * code_bits(traits_.format), 32) * 4
                                 : along_words / info.elements_per_block * info.bytes_per_block;
  const int64_t expected = checked_mul(unit_bytes, across, "bytes of a quantized matrix");
  if (named_.source->slices.size() != 1 || named_.source->slices.front().num_bytes != expected) {
    refuse("expects codes of " + std::to_string(expected) + " bytes in one piece");
  }
  num_bytes_ = checked_add(num_bytes_, expected, "bytes of a quantized matrix");
}

void CodedTensor::check_component(const Component& component, const char* name, int64_t rows,
                                  int64_t cols) const {
  if (component.shape[0] != rows || component.shape[1] != cols) {
    refuse(std::string("expects ") + name + " of shape " + shape_text(rows, cols) + ", found " +
           shape_text(component.shape[0], component.shape[1]));
  }
  const int64_t expected = checked_mul(checked_mul(rows, cols, "elements of a component"),
                                       bytes_of(component.dtype), "bytes of a component");
  const FileSlice& slice = component.slice;
  const WeightFile& file = files_[static_cast<size_t>(slice.file)];
  if (slice.num_bytes != expected || expected > file.size() || slice.offset > file.size() - expected) {
    refuse(std::string("expects ") + name + " of " + std::to_string(expected) + " bytes inside " +
           file.path());
  }
}

void CodedTensor::check_scales() {
  const Quantization& quantization = *named_.source->quantization;
  const Component& scales = quantization.scales;
  if (!is_scale_type(scales.dtype)) refuse("expects scales that are floats");
  const FileSlice& codes = named_.source->slices.front();
  const WeightFile& file = files_[static_cast<size_t>(codes.file)];
  if (codes.num_bytes > file.size() || codes.offset > file.size() - codes.num_bytes) {
    refuse("has codes that end behind " + file.path());
  }
  if (is_columnar(traits_.format)) {
    check_component(scales, "scales", num_groups_, quantization.num_stored_rows);
  } else {
    check_component(scales, "scales", ceil_div(quantization.num_stored_rows, quantization.group_rows),
                    num_groups_);
  }
  num_bytes_ = checked_add(num_bytes_, scales.slice.num_bytes, "bytes of a quantized matrix");
}

void CodedTensor::check_zeros() {
  const Quantization& quantization = *named_.source->quantization;
  if (!quantization.zeros) {
    if (!quantization.is_symmetric && traits_.format != StoredFormat::f8_e4m3) refuse("has no zeros");
    return;
  }
  const Component& zeros = *quantization.zeros;
  const int64_t num_words = ceil_div(quantization.num_stored_rows * code_bits(traits_.format), 32);
  const ComponentDtype dtype = traits_.format == StoredFormat::i8 ? ComponentDtype::i8 : ComponentDtype::i32;
  if (traits_.format == StoredFormat::f8_e4m3 || traits_.format == StoredFormat::packed_e2m1) {
    refuse("has zeros, though its codes are floats");
  }
  if (zeros.dtype != dtype) refuse("has zeros of another type");
  if (is_columnar(traits_.format)) {
    check_component(zeros, "zeros", num_groups_, num_words);
  } else if (is_packed(traits_.format)) {
    check_component(zeros, "zeros", num_words, num_groups_);
  } else {
    check_component(zeros, "zeros", quantization.scales.shape[0], quantization.scales.shape[1]);
  }
  num_bytes_ = checked_add(num_bytes_, zeros.slice.num_bytes, "bytes of a quantized matrix");
}

std::vector<int32_t> CodedTensor::ordered_groups() const {
  std::vector<int32_t> groups(static_cast<size_t>(traits_.num_cols));
  for (size_t col = 0; col < groups.size(); ++col) {
    groups[col] = static_cast<int32_t>(static_cast<int64_t>(col) / traits_.group_cols);
  }
  return groups;
}

void CodedTensor::find_groups() {
  const Quantization& quantization = *named_.source->quantization;
  if (!quantization.group_index) {
    if (!quantization.has_ordered_groups) refuse("has no group of each column");
    return;
  }
  const Component& index = *quantization.group_index;
  if (index.dtype != ComponentDtype::i32) refuse("has groups that are no int32");
  check_component(index, "groups", 1, traits_.num_cols);
  std::vector<int32_t> found(static_cast<size_t>(traits_.num_cols));
  const WeightFile& file = files_[static_cast<size_t>(index.slice.file)];
  file.read(index.slice.offset, std::as_writable_bytes(std::span(found)));
  const std::vector<int32_t> ordered = ordered_groups();
  const auto place = [&](size_t col) {
    return "has column " + std::to_string(col) + " in group " + std::to_string(found[col]);
  };
  for (size_t col = 0; col < found.size(); ++col) {
    if (found[col] < 0 || found[col] >= num_groups_)
      refuse(place(col) + " of " + std::to_string(num_groups_));
    if (quantization.has_ordered_groups && found[col] != ordered[col]) {
      refuse(place(col) + ", although its groups are in order");
    }
  }
  if (!quantization.has_ordered_groups) group_of_col_ = std::move(found);
}

// The parts of some stored rows, in memory.
class CodedTensor::PieceReader {
 public:
  PieceReader(const CodedTensor& tensor, int64_t first, int64_t last)
      : tensor_(tensor),
        quantization_(*tensor.named_.source->quantization),
        format_(tensor.traits_.format),
        first_(quantization_.first_row + first),
        last_(quantization_.first_row + last),
        groups_(tensor.group_of_col_.empty() ? tensor.ordered_groups() : tensor.group_of_col_) {}

  CodedRows read() {
    read_codes();
    read_scales();
    read_zeros();
    return {.traits = tensor_.traits_,
            .num_rows = last_ - first_,
            .codes = codes_,
            .first_in_word = format_ == StoredFormat::awq_4 ? first_ % 8 : 0,
            .num_groups = tensor_.num_groups_,
            .scales = scales_,
            .zeros = zeros_,
            .group_of_col = groups_};
  }

 private:
  // Columns [first_col, last_col) of rows [first_row, last_row) of a table in a file.
  struct Rectangle {
    int64_t num_cols;  // of the table
    int64_t element_bytes;
    int64_t first_row, last_row;
    int64_t first_col, last_col;
  };

  std::vector<std::byte> read_rectangle(const FileSlice& slice, const Rectangle& part) const {
    const int64_t width = (part.last_col - part.first_col) * part.element_bytes;
    const int64_t row_bytes = part.num_cols * part.element_bytes;
    std::vector<std::byte> bytes(static_cast<size_t>(width * (part.last_row - part.first_row)));
    const WeightFile& file = tensor_.files_[static_cast<size_t>(slice.file)];
    const int64_t start = slice.offset + part.first_row * row_bytes + part.first_col * part.element_bytes;
    if (width == row_bytes) {
      file.read(start, bytes);
      return bytes;
    }
    for (int64_t row = 0; row < part.last_row - part.first_row; ++row) {
      file.read(start + row * row_bytes,
                std::span(bytes).subspan(static_cast<size_t>(row * width), static_cast<size_t>(width)));
    }
    return bytes;
  }

  void read_codes() {
    const FileSlice& slice = tensor_.named_.source->slices.front();
    const int64_t num_cols = tensor_.traits_.num_cols;
    const int64_t stored_rows = quantization_.num_stored_rows;
    if (is_gptq(format_)) {
      codes_ = read_rectangle(slice, {stored_rows, 4, 0, num_cols * code_bits(format_) / 32, first_, last_});
    } else if (format_ == StoredFormat::awq_4) {
      codes_ = read_rectangle(slice, {stored_rows / 8, 4, 0, num_cols, first_ / 8, ceil_div(last_, 8)});
    } else {
      const int64_t row_bytes =
          is_packed(format_) ? ceil_div(num_cols * code_bits(format_), 32) * 4 : num_cols;
      codes_ = read_rectangle(slice, {row_bytes, 1, first_, last_, 0, row_bytes});
    }
  }

  void read_scales() {
    const Component& scales = quantization_.scales;
    const int64_t size = bytes_of(scales.dtype);
    const int64_t num_rows = last_ - first_;
    const int64_t num_groups = tensor_.num_groups_;
    scales_.resize(static_cast<size_t>(num_rows * num_groups));
    const bool is_turned = is_columnar(format_);
    const int64_t first_scale = first_ / quantization_.group_rows;
    const std::vector<std::byte> bytes =
        is_turned ? read_rectangle(scales.slice,
                                   {quantization_.num_stored_rows, size, 0, num_groups, first_, last_})
                  : read_rectangle(scales.slice, {num_groups, size, first_scale,
                                                  (last_ - 1) / quantization_.group_rows + 1, 0, num_groups});
    for (int64_t row = 0; row < num_rows; ++row) {
      const int64_t scale_row = (first_ + row) / quantization_.group_rows - first_scale;
      for (int64_t group = 0; group < num_groups; ++group) {
        const int64_t at = is_turned ? group * num_rows + row : scale_row * num_groups + group;
        scales_[static_cast<size_t>(row * num_groups + group)] =
            scale_at(scales.dtype, bytes.data() + at * size);
      }
    }
  }

  void read_zeros() {
    const int32_t middle = format_ == StoredFormat::i8 ? 0 : 1 << (code_bits(format_) - 1);
    zeros_.assign(scales_.size(), middle);
    if (!quantization_.zeros) return;
    read_stored_zeros();
    if (!quantization_.is_symmetric) return;
    const auto other = std::ranges::find_if(zeros_, [&](int32_t zero) { return zero != middle; });
    if (other != zeros_.end()) {
      tensor_.refuse("has a zero of " + std::to_string(*other) + ", although it is symmetric around " +
                     std::to_string(middle));
    }
  }

  void read_stored_zeros() {
    const int64_t num_groups = tensor_.num_groups_;
    const int bits = code_bits(format_);
    const Component& zeros = *quantization_.zeros;
    if (format_ == StoredFormat::i8) return read_byte_zeros(zeros);
    const int64_t first_word = first_ * bits / 32;
    const int64_t last_word = ceil_div(last_ * bits, 32);
    const int64_t num_words = last_word - first_word;
    const bool is_turned = is_columnar(format_);
    const std::vector<std::byte> bytes =
        is_turned ? read_rectangle(zeros.slice, {zeros.shape[1], 4, 0, num_groups, first_word, last_word})
                  : read_rectangle(zeros.slice, {num_groups, 4, first_word, last_word, 0, num_groups});
    for (int64_t row = first_; row < last_; ++row) {
      for (int64_t group = 0; group < num_groups; ++group) {
        const auto word_at = [&](int64_t index) {
          const int64_t word = index - first_word;
          const int64_t at = is_turned ? group * num_words + word : word * num_groups + group;
          return load_u32(bytes.data() + at * 4) + one_less();
        };
        const int64_t place = format_ == StoredFormat::awq_4 ? row / 8 * 8 + kAwqNibbles[row % 8] : row;
        int32_t zero = static_cast<int32_t>(unpack_code(place, bits, word_at));
        if (quantization_.has_zeros_less_one && bits == 3) ++zero;
        zeros_[static_cast<size_t>((row - first_) * num_groups + group)] = zero;
      }
    }
  }

  // What gives back the one that GPTQ v1 takes from each zero of a word, by one subtraction from the whole
  // word.
  uint32_t one_less() const {
    if (!quantization_.has_zeros_less_one) return 0;
    switch (code_bits(format_)) {
      case 2:
        return 0x55555555;
      case 4:
        return 0x11111111;
      case 8:
        return 0x01010101;
      default:
        return 0;
    }
  }

  void read_byte_zeros(const Component& zeros) {
    const int64_t num_groups = tensor_.num_groups_;
    const int64_t first_zero = first_ / quantization_.group_rows;
    const std::vector<std::byte> bytes = read_rectangle(
        zeros.slice, {num_groups, 1, first_zero, (last_ - 1) / quantization_.group_rows + 1, 0, num_groups});
    for (int64_t row = first_; row < last_; ++row) {
      for (int64_t group = 0; group < num_groups; ++group) {
        const int64_t at = (row / quantization_.group_rows - first_zero) * num_groups + group;
        zeros_[static_cast<size_t>((row - first_) * num_groups + group)] =
            static_cast<int8_t>(bytes[static_cast<size_t>(at)]);
      }
    }
  }

  const CodedTensor& tensor_;
  const Quantization& quantization_;
  const StoredFormat format_;
  const int64_t first_, last_;
  const std::vector<int32_t> groups_;
  std::vector<std::byte> codes_;
  std::vector<float> scales_;
  std::vector<int32_t> zeros_;
};

DecodedRows CodedTensor::decode(int64_t first, int64_t last, const PackedFormat& format) const {
  PieceReader reader(*this, first, last);
  const CodedRows rows = reader.read();
  const int64_t num_cols = traits_.num_cols;
  DecodedRows out;
  if (format.is_quantized()) {
    const int64_t num_groups = num_cols / kGroup;
    out.groups.resize(static_cast<size_t>(rows.num_rows * num_groups));
    for (int64_t row = 0; row < rows.num_rows; ++row) {
      decode_row(rows, row,
                 std::span(out.groups)
                     .subspan(static_cast<size_t>(row * num_groups), static_cast<size_t>(num_groups)));
    }
    return out;
  }
  out.values.resize(static_cast<size_t>(rows.num_rows * num_cols));
  for (int64_t row = 0; row < rows.num_rows; ++row) {
    decode_row(
        rows, row,
        std::span(out.values).subspan(static_cast<size_t>(row * num_cols), static_cast<size_t>(num_cols)));
  }
  return out;
}

}  // namespace autoglm
