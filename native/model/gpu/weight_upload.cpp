#include "model/gpu/weight_upload.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "cuda/driver/uploader.h"
#include "cuda/gemm/repack_floats.h"
#include "cuda/quantized/weight_order.h"
#include "model/gpu/host_rows.h"

namespace autoglm::gpu {
namespace {

constexpr int64_t kStagingBytes = int64_t{32}
                                  << 20;  // a millisecond of PCIe, beside which a launch is nothing
// No panel is smaller than one group of 4-bit codes with its scales.
constexpr int64_t kFactorBytes = kStagingBytes / (512 + 64) * int64_t{sizeof(float)} / 256 * 256;
constexpr int64_t kRowUnit = 8;  // 16-bit floats in 16 bytes

int64_t row_stride(int64_t k) { return cuda::ceil_div(k, kRowUnit) * kRowUnit; }

int64_t padded(int64_t num_bytes) {
  return static_cast<int64_t>(cuda::Arena::padded(static_cast<size_t>(num_bytes)));
}

struct MatrixBytes {
  int64_t weights = 0;
  int64_t scales = 0;  // and of mins
  int64_t factors = 0;
};

MatrixBytes bytes_of(const DeviceForm& form, int64_t n, int64_t k) {
  if (!cuda::is_quantized(form.layout)) {
    return {.weights = checked_mul(n, row_stride(k) * 2, "bytes of the weights")};
  }
  return {.weights = cuda::weights_bytes(form.layout, n, k),
          .scales = cuda::scales_bytes(n, k, form.group),
          .factors = cuda::num_panels(n) * int64_t{sizeof(float)}};
}

int64_t num_rows_of(const WeightUpload::Parts& parts) {
  int64_t total = 0;
  for (const MatrixPart& part : parts) total += part.num_rows;
  return total;
}

bool begins_in_panels(std::span<const MatrixPart> parts) {
  return std::ranges::all_of(parts, [](const MatrixPart& part) { return part.first_row % kPanelRows == 0; });
}

// Which keeps the codes, or the halves, of one matrix.
DeviceForm form_of(const PackedMatrix& matrix) {
  const PackedFormat& format = matrix.format;
  if (format.layout == ComputeLayout::f16) return {.layout = cuda::DeviceLayout::f16};
  if (!format.is_quantized() || format.scale_type != ScaleType::f16) return {};
  return {.layout = format.layout == ComputeLayout::q4 ? cuda::DeviceLayout::w4 : cuda::DeviceLayout::w8,
          .group = static_cast<int32_t>(kGroup) / format.scales_per_group,
          .has_mins = format.has_min};
}

int64_t mapped_row(const MatrixPart& part, int64_t row) {
  const int64_t to = part.first_destination_row + row;
  return part.rows == PartRows::plain ? to : cuda::gated_row(to, part.rows == PartRows::up);
}

cuda::RowMapping mapping_of(PartRows rows) {
  return rows == PartRows::plain  ? cuda::RowMapping::plain
         : rows == PartRows::gate ? cuda::RowMapping::gate
                                  : cuda::RowMapping::up;
}

bool is_float(const MatrixPart& part) { return !part.source.format.is_quantized(); }

}  // namespace

DeviceForm choose_form(std::span<const MatrixPart> parts) {
  const MatrixPart& first = parts.front();
  DeviceForm form = form_of(first.source);
  const bool is_shared =
      std::ranges::all_of(parts, [&](const MatrixPart& part) { return form_of(part.source) == form; });
  if (!is_shared) return {};
  if (!cuda::is_quantized(form.layout)) return form;
  if (!begins_in_panels(parts)) return {};
  form.group = shared_group(first.source, first.first_row, first.num_rows);
  for (const MatrixPart& part : parts.subspan(1)) {
    form.group = std::min(form.group, shared_group(part.source, part.first_row, part.num_rows));
  }
  return form;
}

int64_t device_matrix_bytes(const DeviceForm& form, int64_t n, int64_t k) {
  const MatrixBytes bytes = bytes_of(form, n, k);
  return padded(bytes.weights) + padded(bytes.scales) * (form.has_mins ? 2 : 1) + padded(bytes.factors);
}

// One upload under way.
class WeightUpload::Run {
 public:
  Run(cuda::Stream& stream, ThreadPool& pool, LoadControl& control, const std::vector<Job>& jobs)
      : stream_(stream),
        pool_(pool),
        control_(control),
        uploader_(stream),
        staging_(stream.shared_context(), static_cast<size_t>(staging_bytes(jobs))) {}

  void bring(const Job& job) {
    if (cuda::is_quantized(job.form.layout)) return bring_quantized(job);
    const bool is_direct = std::ranges::all_of(job.parts, is_float) && begins_in_panels(job.parts);
    if (!is_direct) return unpack_rows(job);
    for (const MatrixPart& part : job.parts) {
      stage(part, [&](int64_t first, int64_t count) { repack_floats(job, part, first, count); });
    }
  }

  void bring(std::span<const float> values, float* destination) {
    uploader_.upload(destination, std::as_bytes(values), [this](size_t) { control_.check(); });
  }

  void finish() { uploader_.finish(); }

 private:
  static int64_t staging_bytes(const std::vector<Job>& jobs) {
    int64_t most = kStagingBytes;
    for (const Job& job : jobs) {
      for (const MatrixPart& part : job.parts)
        most = std::max(most, panel_bytes(part.source.format, part.source.k));
    }
    return most + kFactorBytes;
  }

  // Brings the part's panels to the staging buffer, as many at once as it takes, and calls
  // repack(first row of the part, number of rows) for each time.
  template <typename Repack>
  void stage(const MatrixPart& part, const Repack& repack) {
    const int64_t bytes_per_panel = panel_bytes(part.source.format, part.source.k);
    const int64_t rows_at_once = staging_panel_bytes() / bytes_per_panel * kPanelRows;
    for (int64_t first = 0; first < part.num_rows; first += rows_at_once) {
      const int64_t count = std::min(rows_at_once, part.num_rows - first);
      const int64_t first_panel = (part.first_row + first) / kPanelRows;
      const auto num_panels = static_cast<size_t>(cuda::ceil_div(count, kPanelRows));
      const std::span<const std::byte> panels(part.source.panels + first_panel * bytes_per_panel,
                                              num_panels * static_cast<size_t>(bytes_per_panel));
      uploader_.upload(staging_.data(), panels, [this](size_t) { control_.check(); });
      if (part.source.format.is_quantized()) {
        const std::span<const float> factors(part.source.panel_factors + first_panel, num_panels);
        uploader_.upload(staged_factors(), std::as_bytes(factors));
      }
      repack(first, count);
    }
  }

  // Factors lie behind the panels.
  int64_t staging_panel_bytes() const { return static_cast<int64_t>(staging_.size()) - kFactorBytes; }
  float* staged_factors() const { return reinterpret_cast<float*>(staging_.data() + staging_panel_bytes()); }

  void repack_floats(const Job& job, const MatrixPart& part, int64_t first, int64_t count) {
    const cuda::RepackFloatsArgs args{
        .panels = staging_.data(),
        .destination = static_cast<uint16_t*>(const_cast<void*>(job.destination->weights)),
        .first_row = first,
        .first_destination_row = part.first_destination_row,
        .num_rows = static_cast<int32_t>(count),
        .k = static_cast<int32_t>(job.k),
        .row_stride = job.destination->row_stride,
        .layout = part.source.format.layout,
        .destination_layout = job.form.layout,
        .mapping = mapping_of(part.rows)};
    cuda::launch(stream_, cuda::repack_floats_launch(args), args);
  }

  void bring_quantized(const Job& job) {
    const cuda::DeviceMatrix& matrix = *job.destination;
    const MatrixBytes bytes = bytes_of(job.form, job.n, job.k);
    const auto clear = [&](const void* memory, int64_t num_bytes) {
      if (memory != nullptr) stream_.fill(const_cast<void*>(memory), 0, static_cast<size_t>(num_bytes));
    };
    clear(matrix.weights, bytes.weights);
    clear(matrix.scales, bytes.scales);
    clear(matrix.mins, bytes.scales);
    std::vector<float> factors(static_cast<size_t>(cuda::num_panels(job.n)));
    for (const MatrixPart& part : job.parts) {
      merge_factors(part.source.panel_factors + part.first_row / kPanelRows, part.num_rows, part.rows,
                    part.first_destination_row, factors);
    }
    uploader_.upload(const_cast<float*>(matrix.row_factors), std::as_bytes(std::span(factors)));
    for (const MatrixPart& part : job.parts) {
      stage(part, [&](int64_t first, int64_t count) {
        repack_quantized({.panels = staging_.data(),
                          .panel_factors = staged_factors(),
                          .format = part.source.format,
                          .first_panel = first / kPanelRows,
                          .num_rows = count,
                          .first_row = part.first_destination_row,
                          .rows = part.rows},
                         matrix, stream_);
      });
    }
  }

  struct RowOrigin {
    const PackedMatrix* matrix = nullptr;
    int64_t row = 0;
  };

  // Where each row of the destination comes from.
  static std::vector<RowOrigin> origins_of(const Job& job) {
    std::vector<RowOrigin> origins(static_cast<size_t>(job.n));
    for (const MatrixPart& part : job.parts) {
      for (int64_t row = 0; row < part.num_rows; ++row) {
        origins[static_cast<size_t>(mapped_row(part, row))] = {&part.source, part.first_row + row};
      }
    }
    return origins;
  }

  // Makes `count` equal pieces of `target` on all threads, as many at once as an upload takes.
  template <typename Make>
  void make_pieces(const void* target, int64_t count, int64_t piece_bytes, const Make& make) {
    auto* const first_byte = static_cast<std::byte*>(const_cast<void*>(target));
    const int64_t at_once =
        std::max<int64_t>(1, static_cast<int64_t>(cuda::Uploader::kPieceBytes) / piece_bytes);
    for (int64_t first = 0; first < count; first += at_once) {
      const int64_t num_pieces = std::min(at_once, count - first);
      uploader_.upload(first_byte + first * piece_bytes, static_cast<size_t>(num_pieces * piece_bytes),
                       [&](std::span<std::byte> bytes, size_t) {
                         control_.check();
                         pool_.run(num_pieces, [&](int64_t piece, int) {
                           make(first + piece, bytes.data() + piece * piece_bytes);
                         });
                       });
    }
  }

  void unpack_rows(const Job& job) {
    const std::vector<RowOrigin> origins = origins_of(job);
    const auto stride = static_cast<size_t>(job.destination->row_stride);
    const bool keeps_halves = job.form.layout == cuda::DeviceLayout::f16;
    make_pieces(
        job.destination->weights, job.n, static_cast<int64_t>(stride * sizeof(uint16_t)),
        [&](int64_t row, std::byte* out) {
          const RowOrigin& origin = origins[static_cast<size_t>(row)];
          if (keeps_halves) {
            unpack_row(*origin.matrix, origin.row, std::span(reinterpret_cast<uint16_t*>(out), stride));
          } else {
            unpack_row(*origin.matrix, origin.row, std::span(reinterpret_cast<cuda::Bf16*>(out), stride));
          }
        });
  }

  cuda::Stream& stream_;
  ThreadPool& pool_;
  LoadControl& control_;
  cuda::Uploader uploader_;
  cuda::DeviceMemory staging_;
};

void WeightUpload::add(cuda::DeviceMatrix& destination, Parts parts, const DeviceForm& form) {
  const int64_t n = num_rows_of(parts);
  const int64_t k = parts.front().source.k;
  num_bytes_ = checked_add(num_bytes_, device_matrix_bytes(form, n, k), "bytes of the weights");
  jobs_.push_back({.destination = &destination, .parts = std::move(parts), .form = form, .n = n, .k = k});
}

void WeightUpload::add_matrix(cuda::DeviceMatrix& destination, Parts parts) {
  const DeviceForm form = choose_form(parts);
  add(destination, std::move(parts), form);
}

void WeightUpload::add_bf16_matrix(cuda::DeviceMatrix& destination, Parts parts) {
  add(destination, std::move(parts), {});
}

void WeightUpload::add_experts(DeviceExperts& destination, const std::vector<Parts>& experts) {
  DeviceForm form = choose_form(experts.front());
  for (const Parts& parts : experts) {
    DeviceForm other = choose_form(parts);
    if (!cuda::is_quantized(form.layout) && !cuda::is_quantized(other.layout)) {
      if (other != form) form = {};
      continue;
    }
    form.group = other.group = std::min(form.group, other.group);
    if (other != form) {
      throw Error(ErrorCode::unsupported_model,
                  "the GPU needs all experts of a layer in one format, this model has several");
    }
  }
  experts_.push_back({.destination = &destination, .first_job = jobs_.size(), .num_experts = experts.size()});
  for (const Parts& parts : experts) add(expert_matrices_.emplace_back(), parts, form);
}

void WeightUpload::add_vector(const float*& destination, std::vector<float> values) {
  vectors_.push_back({.destination = &destination, .first = values_.size()});
  num_bytes_ += padded(static_cast<int64_t>(values.size() * sizeof(float)));
  values_.insert(values_.end(), values.begin(), values.end());
  // Each vector begins where vectors of floats are read four at a time.
  values_.resize((values_.size() + 63) / 64 * 64);
}

void WeightUpload::place(cuda::Arena& arena) {
  for (const Job& job : jobs_) {
    const MatrixBytes bytes = bytes_of(job.form, job.n, job.k);
    cuda::DeviceMatrix& matrix = *job.destination;
    matrix.n = static_cast<int32_t>(job.n);
    matrix.k = static_cast<int32_t>(job.k);
    matrix.group = job.form.group;
    matrix.layout = job.form.layout;
    matrix.weights = arena.take(static_cast<size_t>(bytes.weights));
    if (!cuda::is_quantized(job.form.layout)) {
      matrix.row_stride = static_cast<int32_t>(row_stride(job.k));
      continue;
    }
    matrix.scales = arena.take(static_cast<size_t>(bytes.scales));
    if (job.form.has_mins) matrix.mins = arena.take(static_cast<size_t>(bytes.scales));
    matrix.row_factors = reinterpret_cast<const float*>(arena.take(static_cast<size_t>(bytes.factors)));
  }
  for (const ExpertsJob& each : experts_) {
    const Job& first = jobs_[each.first_job];
    const int64_t stride = device_matrix_bytes(first.form, first.n, first.k);
    each.destination->first = *first.destination;
    each.destination->strides = {.num_experts = static_cast<int32_t>(each.num_experts),
                                 .weight_stride = stride,
                                 .scale_stride = stride,
                                 .row_factor_stride = stride / int64_t{sizeof(float)}};
  }
}

cuda::Arena WeightUpload::run(cuda::Stream& stream, ThreadPool& pool, LoadControl& control) {
  cuda::Arena arena(stream.shared_context(), static_cast<size_t>(num_bytes_));
  place(arena);
  auto* const vectors = arena.take<float>(values_.size());
  for (const VectorJob& job : vectors_) *job.destination = vectors + job.first;
  Run upload(stream, pool, control, jobs_);
  for (const Job& job : jobs_) upload.bring(job);
  upload.bring(values_, vectors);
  upload.finish();
  return arena;
}

}  // namespace autoglm::gpu
