#include "model/gpu/device_rope.h"

#include "cuda/rows/rope_angles.h"

namespace autoglm::gpu {

DeviceRope::DeviceRope(const DecoderSpec& spec, int64_t num_row_tables, int64_t max_rows,
                       cuda::Stream& stream)
    : has_row_tables_(num_row_tables > 1) {
  // Of layers' tables, and of those that stand behind them for rows.
  const int64_t num_named = static_cast<int64_t>(spec.rope_tables.size()) - num_row_tables + 1;
  size_t num_bytes = 0;
  for (int64_t named = 0; named < num_named; ++named) {
    const int64_t num_pairs = spec.rope_tables[static_cast<size_t>(named)].rotary_dim / 2;
    tables_.push_back({.num_pairs = static_cast<int32_t>(num_pairs)});
    num_bytes += cuda::Arena::padded(static_cast<size_t>(num_row_tables * num_pairs) * sizeof(double));
    num_bytes += cuda::Arena::padded(static_cast<size_t>(num_row_tables) * sizeof(float));
    num_bytes += cuda::Arena::padded(static_cast<size_t>(max_rows * 2 * num_pairs) * sizeof(float));
  }
  arena_ = cuda::Arena(stream.shared_context(), num_bytes);
  for (size_t named = 0; named < tables_.size(); ++named) {
    Table& table = tables_[named];
    std::vector<double> frequencies;
    std::vector<float> factors;
    for (size_t i = named; i < named + static_cast<size_t>(num_row_tables); ++i) {
      const RopeTable& each = spec.rope_tables[i];
      frequencies.insert(frequencies.end(), each.frequencies.begin(), each.frequencies.end());
      frequencies.resize((i - named + 1) * static_cast<size_t>(table.num_pairs));
      factors.push_back(each.attention_factor);
    }
    const auto upload = [&](const auto& values) {
      auto* const memory = arena_.take(values.size() * sizeof(values.front()));
      stream.copy_to_device(memory, values.data(), values.size() * sizeof(values.front()));
      return memory;
    };
    table.frequencies = reinterpret_cast<const double*>(upload(frequencies));
    table.factors = reinterpret_cast<const float*>(upload(factors));
    table.cos_sin = arena_.take<float>(static_cast<size_t>(max_rows * 2 * table.num_pairs));
  }
}

void DeviceRope::compute(const DeviceStep& step, cuda::Stream& stream) const {
  for (const Table& table : tables_) {
    const cuda::RopeAnglesArgs args{.positions = step.positions,
                                    .tables = has_row_tables_ ? step.rope_tables : nullptr,
                                    .frequencies = table.frequencies,
                                    .attention_factors = table.factors,
                                    .cos_sin = table.cos_sin,
                                    .num_rows = step.num_rows,
                                    .num_pairs = table.num_pairs};
    cuda::launch(stream, cuda::rope_angles_launch(args), args);
  }
}

}  // namespace autoglm::gpu
