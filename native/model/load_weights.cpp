#include "model/load_weights.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <span>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "model/source_sample.h"
#include "model/stored_tensor.h"
#include "model/weight_layout.h"
#include "quant/packed_matrix.h"
#include "quant/repack.h"

namespace autoglm {
namespace {

// Stored bytes read and packed at once: long enough for sequential reads, short enough that a cancel is
// prompt and that threads stay evenly loaded.
constexpr int64_t kPieceBytes = int64_t{2} << 20;
constexpr int64_t kAlignment = 64;

struct StoredMatrix {
  const MatrixJob* job = nullptr;
  std::vector<StoredTensor> tensors;
};

// A run of panels of one matrix.
struct Piece {
  const StoredMatrix* matrix = nullptr;
  int64_t first_panel = 0;
  int64_t last_panel = 0;
};

// Memory that grows and is not cleared.
class ReadBuffer {
 public:
  std::span<std::byte> take(size_t num_bytes) {
    if (num_bytes > capacity_) {
      bytes_.reset();
      capacity_ = 0;
      bytes_ = std::make_unique_for_overwrite<std::byte[]>(num_bytes);
      capacity_ = num_bytes;
    }
    return {bytes_.get(), num_bytes};
  }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  size_t capacity_ = 0;
};

int64_t rounded(int64_t num_bytes) { return checked_round_up(num_bytes, kAlignment, "bytes of the weights"); }

int64_t arena_bytes(const WeightLayout& layout) {
  int64_t total = 0;
  for (const MatrixJob& job : layout.matrices) {
    total =
        checked_add(total, rounded(packed_matrix_bytes(job.format, job.n, job.k)), "bytes of the weights");
  }
  for (const VectorJob& job : layout.vectors) {
    total =
        checked_add(total, rounded(job.length * static_cast<int64_t>(sizeof(float))), "bytes of the weights");
  }
  return total;
}

// Gives every job its part of the arena.
void place(const WeightLayout& layout, MemoryRegion arena) {
  layout.weights->arena = std::move(arena);
  std::byte* next = layout.weights->arena.data();
  for (const MatrixJob& job : layout.matrices) {
    const int64_t num_bytes = packed_matrix_bytes(job.format, job.n, job.k);
    *job.destination =
        make_packed_matrix(job.format, job.precision, job.n, job.k, {next, static_cast<size_t>(num_bytes)});
    next += rounded(num_bytes);
  }
  for (const VectorJob& job : layout.vectors) {
    *job.destination = reinterpret_cast<const float*>(next);
    next += rounded(job.length * static_cast<int64_t>(sizeof(float)));
  }
}

std::vector<Piece> cut_in_pieces(const std::vector<StoredMatrix>& matrices) {
  std::vector<Piece> pieces;
  for (const StoredMatrix& matrix : matrices) {
    const int64_t num_panels = matrix.job->destination->num_panels();
    const bool is_transposed = std::ranges::any_of(
        matrix.tensors, [](const StoredTensor& each) { return each.source().is_transposed; });
    const int64_t panel_bytes = kPanelRows * matrix.tensors.front().row_bytes();
    const int64_t step = is_transposed ? num_panels : std::max<int64_t>(1, kPieceBytes / panel_bytes);
    for (int64_t first = 0; first < num_panels; first += step) {
      pieces.push_back({&matrix, first, std::min(num_panels, first + step)});
    }
  }
  return pieces;
}

// The rows of `tensor` that make rows [first, last) of the packed matrix, both relative to the tensor's own
// rows.
StoredRows stored_rows(const StoredTensor& tensor, int64_t first, int64_t last) {
  const auto [low, high] = tensor.stored_range(first, last);
  return {.format = tensor.source().format,
          .bytes = {},
          .num_rows = tensor.num_rows(),
          .num_cols = 0,
          .row_order = tensor.source().row_order,
          .is_transposed = tensor.source().is_transposed,
          .first_stored_row = low,
          .num_stored_rows = high - low};
}

// Fills `source` with rows decoded for `format`, which `decoded` holds; gives the bytes that were read.
int64_t decode_rows(const CodedTensor& tensor, int64_t row_bytes, const PackedFormat& format,
                    StoredRows& source, DecodedRows& decoded) {
  const int64_t first = source.first_stored_row;
  decoded = tensor.decode(first, first + source.num_stored_rows, format);
  source.groups = decoded.groups;
  source.format = StoredFormat::f32;
  source.bytes = std::as_bytes(std::span(decoded.values));
  return source.num_stored_rows * row_bytes;
}

void load_piece(const Piece& piece, ReadBuffer& buffer, LoadControl& control) {
  const MatrixJob& job = *piece.matrix->job;
  const int64_t first_row = piece.first_panel * kPanelRows;
  const int64_t last_row = std::min(job.n, piece.last_panel * kPanelRows);
  std::vector<StoredRows> sources;
  std::vector<DecodedRows> decoded(piece.matrix->tensors.size());
  int64_t total = 0;
  int64_t start = 0;  // of the tensor, in rows of the packed matrix
  for (const StoredTensor& tensor : piece.matrix->tensors) {
    const int64_t first = std::clamp<int64_t>(first_row - start, 0, tensor.num_rows());
    const int64_t last = std::clamp<int64_t>(last_row - start, 0, tensor.num_rows());
    sources.push_back(stored_rows(tensor, first, last));
    sources.back().num_cols = job.k;
    if (tensor.coded() == nullptr) total += sources.back().num_stored_rows * tensor.row_bytes();
    start += tensor.num_rows();
  }
  std::span<std::byte> rest = buffer.take(static_cast<size_t>(total));
  for (size_t i = 0; i < sources.size(); ++i) {
    const StoredTensor& tensor = piece.matrix->tensors[i];
    if (tensor.coded() != nullptr) {
      total += decode_rows(*tensor.coded(), tensor.row_bytes(), job.format, sources[i], decoded[i]);
      continue;
    }
    const auto bytes = rest.first(static_cast<size_t>(sources[i].num_stored_rows * tensor.row_bytes()));
    tensor.read(sources[i].first_stored_row * tensor.row_bytes(), bytes);
    sources[i].bytes = bytes;
    rest = rest.subspan(bytes.size());
  }
  pack_panels(*job.destination, sources, piece.first_panel, piece.last_panel);
  control.loaded_bytes.fetch_add(total, std::memory_order_relaxed);
}

void load_vector(const VectorJob& job, std::span<const WeightFile> files, LoadControl& control) {
  // The arena is ours to write until the weights are handed out.
  float* out = const_cast<float*>(*job.destination);
  for (const NamedSource& named : job.sources) {
    const StoredTensor tensor(named, 1, files);
    std::vector<std::byte> bytes(static_cast<size_t>(tensor.num_bytes()));
    tensor.read(0, bytes);
    std::vector<float> values(static_cast<size_t>(tensor.num_stored_rows()));
    dequantize_stored(tensor.source().format, bytes, values);
    const std::vector<int32_t>& order = tensor.source().row_order;
    for (size_t i = 0; i < static_cast<size_t>(named.num_rows); ++i) {
      out[i] = values[order.empty() ? i : static_cast<size_t>(order[i])];
    }
    out += named.num_rows;
    control.loaded_bytes.fetch_add(tensor.num_bytes(), std::memory_order_relaxed);
  }
}

// Throws as StoredTensor does; gives the bytes that will be read.
int64_t open_matrices(const WeightLayout& layout, std::span<const WeightFile> files,
                      std::vector<StoredMatrix>& matrices) {
  int64_t total_bytes = 0;
  matrices.reserve(layout.matrices.size());
  for (const MatrixJob& job : layout.matrices) {
    matrices.push_back({.job = &job, .tensors = {}});
    for (const NamedSource& named : job.sources) {
      matrices.back().tensors.emplace_back(named, job.k, files);
      total_bytes += matrices.back().tensors.back().num_bytes();
    }
  }
  for (const VectorJob& job : layout.vectors) {
    for (const NamedSource& named : job.sources) total_bytes += StoredTensor(named, 1, files).num_bytes();
  }
  return total_bytes;
}

// False, with the reason in the weights' origin, when the packed file is of no use.
bool take_packed(const PackedFile& packed, const WeightLayout& layout, ThreadPool& pool,
                 LoadControl& control) {
  WeightsOrigin& origin = layout.weights->origin;
  const int64_t num_bytes = arena_bytes(layout);
  if (packed.num_bytes != num_bytes) {
    origin.refusal = packed.path + " has " + std::to_string(packed.num_bytes) +
                     " bytes of weights, this model packs to " + std::to_string(num_bytes);
    return false;
  }
  if (packed.sample != origin.sample) {
    origin.refusal = packed.path + " was made from other weights than the model's files hold now";
    return false;
  }
  control.loaded_bytes.store(0, std::memory_order_relaxed);
  control.total_bytes.store(num_bytes, std::memory_order_relaxed);
  try {
    place(layout, read_packed_file(packed, pool, control));
  } catch (const Error& error) {
    if (error.code != ErrorCode::invalid_model_file) throw;
    origin.refusal = error.what();
    return false;
  }
  origin.is_packed_file = true;
  return true;
}

// User time: what the system does for us, clearing pages above all, is the same however the bytes get there.
double thread_user_ms() {
#ifdef RUSAGE_THREAD
  struct rusage usage{};
  if (getrusage(RUSAGE_THREAD, &usage) != 0) return 0;
  return static_cast<double>(usage.ru_utime.tv_sec) * 1e3 + static_cast<double>(usage.ru_utime.tv_usec) / 1e3;
#else
  return static_cast<double>(clock_gettime_nsec_np(CLOCK_THREAD_CPUTIME_ID)) / 1e6;
#endif
}

void pack(const WeightLayout& layout, const std::vector<StoredMatrix>& matrices,
          std::span<const WeightFile> files, ThreadPool& pool, LoadControl& control) {
  const std::vector<Piece> pieces = cut_in_pieces(matrices);
  std::vector<ReadBuffer> buffers(static_cast<size_t>(pool.num_threads()));
  std::atomic<int64_t> pack_us{0};
  pool.run(static_cast<int64_t>(pieces.size()), [&](int64_t piece, int worker) {
    control.check();
    const double began = thread_user_ms();
    load_piece(pieces[static_cast<size_t>(piece)], buffers[static_cast<size_t>(worker)], control);
    pack_us.fetch_add(static_cast<int64_t>((thread_user_ms() - began) * 1e3), std::memory_order_relaxed);
  });
  for (const VectorJob& job : layout.vectors) load_vector(job, files, control);
  layout.weights->origin.pack_ms = static_cast<double>(pack_us.load()) / 1e3;
}

}  // namespace

std::unique_ptr<DecoderWeights> load_weights(const DecoderSpec& spec, const std::vector<ModelFile>& files,
                                             const WeightMap& map, Precision precision,
                                             const std::optional<PackedFile>& packed, ThreadPool& pool,
                                             LoadControl& control) {
  std::vector<WeightFile> open_files;
  open_files.reserve(files.size());
  for (const ModelFile& file : files) open_files.emplace_back(file);

  WeightLayout layout = lay_out_weights(spec, map, precision);
  std::vector<StoredMatrix> matrices;
  const int64_t total_bytes = open_matrices(layout, open_files, matrices);
  layout.weights->origin.sample = sample_sources(layout, open_files, pool);
  if (!packed || !take_packed(*packed, layout, pool, control)) {
    control.loaded_bytes.store(0, std::memory_order_relaxed);
    control.total_bytes.store(total_bytes, std::memory_order_relaxed);
    control.check();
    place(layout, MemoryRegion(arena_bytes(layout)));
    pack(layout, matrices, open_files, pool, control);
  }
  for (const WeightFile& file : open_files) file.check_unchanged();
  return std::move(layout.weights);
}

}  // namespace autoglm
