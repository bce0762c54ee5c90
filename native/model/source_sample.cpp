#include "model/source_sample.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "base/hash64.h"

namespace autoglm {
namespace {

constexpr int64_t kSampleBytes = 128;  // some hundred weights: no two trainings give the same

void add_slices(const WeightSource& source, std::vector<const FileSlice*>& slices) {
  for (const FileSlice& slice : source.slices) slices.push_back(&slice);
  if (!source.quantization) return;
  const Quantization& quantization = *source.quantization;
  slices.push_back(&quantization.scales.slice);
  if (quantization.zeros) slices.push_back(&quantization.zeros->slice);
  if (quantization.group_index) slices.push_back(&quantization.group_index->slice);
}

}  // namespace

uint64_t sample_sources(const WeightLayout& layout, std::span<const WeightFile> files, ThreadPool& pool) {
  std::vector<const FileSlice*> slices;
  for (const MatrixJob& job : layout.matrices) {
    for (const NamedSource& named : job.sources) add_slices(*named.source, slices);
  }
  for (const VectorJob& job : layout.vectors) {
    for (const NamedSource& named : job.sources) add_slices(*named.source, slices);
  }
  std::vector<std::array<std::byte, kSampleBytes>> samples(slices.size());
  pool.run(static_cast<int64_t>(slices.size()), [&](int64_t index, int) {
    const FileSlice& slice = *slices[static_cast<size_t>(index)];
    const int64_t num_bytes = std::min(kSampleBytes, slice.num_bytes);
    files[static_cast<size_t>(slice.file)].read(
        slice.offset + (slice.num_bytes - num_bytes) / 2,
        std::span(samples[static_cast<size_t>(index)]).first(static_cast<size_t>(num_bytes)));
  });
  Hash64 hash;
  hash.add(std::as_bytes(std::span(samples)));
  return hash.value();
}

}  // namespace autoglm
