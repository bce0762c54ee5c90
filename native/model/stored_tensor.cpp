#include "model/stored_tensor.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/checked.h"
#include "base/error.h"

namespace autoglm {
namespace {

int64_t checked_slice_bytes(const NamedSource& named, std::span<const WeightFile> files) {
  int64_t total = 0;
  for (const FileSlice& slice : named.source->slices) {
    const WeightFile& file = files[static_cast<size_t>(slice.file)];
    if (slice.num_bytes > file.size() || slice.offset > file.size() - slice.num_bytes) {
      throw Error(ErrorCode::invalid_model_file, named.role + " ends at byte " +
                                                     std::to_string(slice.offset) + " + " +
                                                     std::to_string(slice.num_bytes) + " of " + file.path() +
                                                     ", which has " + std::to_string(file.size()) + " bytes");
    }
    total = checked_add(total, slice.num_bytes, "bytes of a tensor");
  }
  return total;
}

void check_row_order(const NamedSource& named, int64_t num_stored_rows) {
  const std::vector<int32_t>& order = named.source->row_order;
  if (static_cast<int64_t>(order.size()) != named.num_rows) {
    throw Error(ErrorCode::invalid_parameter, named.role + " has " + std::to_string(named.num_rows) +
                                                  " rows, its row order has " + std::to_string(order.size()));
  }
  for (const int32_t stored : order) {
    if (stored < 0 || stored >= num_stored_rows) {
      throw Error(ErrorCode::invalid_parameter, "the row order of " + named.role + " names row " +
                                                    std::to_string(stored) + " of " +
                                                    std::to_string(num_stored_rows));
    }
  }
}

}  // namespace

StoredTensor::StoredTensor(const NamedSource& named, int64_t num_cols, std::span<const WeightFile> files)
    : named_(named), files_(files), num_bytes_(checked_slice_bytes(named, files)) {
  const WeightSource& source = *named.source;
  const StoredFormatInfo& format = info_of(source.format);
  if (is_code_format(source.format) != source.quantization.has_value()) {
    throw Error(ErrorCode::invalid_parameter,
                named.role + " of format " + std::string(format.name) +
                    (source.quantization ? " has scales of its own" : " comes without its scales"));
  }
  if (source.quantization) {
    coded_.emplace(named, num_cols, files);
    // Of a fused matrix the share of these rows; a byte more or less per row does not matter to progress.
    row_bytes_ = ceil_div(coded_->num_bytes(), source.quantization->num_stored_rows);
    num_bytes_ = checked_mul(row_bytes_, named.num_rows, "bytes of a quantized matrix");
    num_stored_rows_ = coded_->num_rows();
    if (!source.row_order.empty()) check_row_order(named, num_stored_rows_);
    return;
  }
  if (num_cols % format.elements_per_block != 0 || (source.is_transposed && format.elements_per_block != 1)) {
    throw Error(ErrorCode::invalid_model_file, named.role + " is stored as " + std::string(format.name) +
                                                   " in rows of " + std::to_string(num_cols) +
                                                   ", expected whole blocks of " +
                                                   std::to_string(format.elements_per_block));
  }
  row_bytes_ =
      checked_mul(num_cols / format.elements_per_block, format.bytes_per_block, "bytes of a tensor's row");
  num_stored_rows_ = num_bytes_ / row_bytes_;
  const bool is_ordered = !source.row_order.empty();
  if (num_stored_rows_ * row_bytes_ != num_bytes_ || (!is_ordered && num_stored_rows_ != named.num_rows)) {
    throw Error(ErrorCode::invalid_model_file,
                named.role + " has " + std::to_string(num_bytes_) + " bytes in its files, expected " +
                    std::to_string(named.num_rows) + " rows of " + std::to_string(row_bytes_));
  }
  if (is_ordered) check_row_order(named, num_stored_rows_);
}

std::pair<int64_t, int64_t> StoredTensor::stored_range(int64_t first, int64_t last) const {
  const std::vector<int32_t>& order = named_.source->row_order;
  if (named_.source->is_transposed) return {0, num_stored_rows_};
  if (first == last) return {0, 1};
  if (order.empty()) return {first, last};
  const auto [low, high] = std::ranges::minmax_element(order.begin() + first, order.begin() + last);
  return {*low, *high + 1};
}

void StoredTensor::read(int64_t offset, std::span<std::byte> bytes) const {
  for (const FileSlice& slice : named_.source->slices) {
    if (bytes.empty()) return;
    if (offset >= slice.num_bytes) {
      offset -= slice.num_bytes;
      continue;
    }
    const auto count = std::min(bytes.size(), static_cast<size_t>(slice.num_bytes - offset));
    files_[static_cast<size_t>(slice.file)].read(slice.offset + offset, bytes.first(count));
    bytes = bytes.subspan(count);
    offset = 0;
  }
}

}  // namespace autoglm
