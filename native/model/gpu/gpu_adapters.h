// Low-rank adapters on a GPU: their matrices, uploaded when a step first names them, and what a step tells
// the kernels of cuda/gemm/lora.h.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"
#include "cuda/gemm/lora.h"
#include "model/adapter.h"
#include "model/decoder_spec.h"
#include "model/gpu/step_memory.h"
#include "model/step_rows.h"

namespace autoglm::gpu {

// What the adapters of a step add to one product; absent with max_rank 0.
struct ProductAdditions {
  const cuda::LoraAdapter* adapters = nullptr;
  int32_t max_rank = 0;
};

struct StepAdapters {
  const cuda::LoraPart* parts = nullptr;
  const cuda::LoraRun* runs = nullptr;
  int32_t num_runs = 0;
  std::vector<std::array<ProductAdditions, kNumProducts>> layers;  // empty without adapters

  bool is_active() const { return num_runs > 0; }
};

class GpuAdapters {
 public:
  // Of the layers from `first_layer` on.
  GpuAdapters(const DecoderSpec& spec, int64_t first_layer) : spec_(spec), first_layer_(first_layer) {}

  // Uploads what is not there yet. Throws out_of_memory.
  void begin_step(std::span<const SequenceChunk> chunks, std::span<const SequenceSlice> slices,
                  cuda::Stream& stream);
  bool is_active() const { return !runs_.empty(); }
  // The largest rank that any addition of a product has had, of all its parts together.
  int64_t max_rank() const { return max_rank_; }

  // Between StepMemory::begin and make_room, then behind it.
  void add_sections(StepMemory& memory);
  StepAdapters fill(const StepMemory& memory) const;

  void forget(const Adapter& adapter) { adapters_.erase(&adapter); }

 private:
  // What one adapter adds to one product.
  struct Addition {
    const cuda::Bf16* a = nullptr;
    int32_t rank = 0;
    std::vector<cuda::LoraPart> parts;
  };
  struct DeviceAdapter {
    cuda::Arena arena;
    std::vector<std::array<Addition, kNumProducts>> layers;
  };

  DeviceAdapter upload(const Adapter& adapter, cuda::Stream& stream);

  const DecoderSpec& spec_;
  int64_t first_layer_;
  std::unordered_map<const Adapter*, DeviceAdapter> adapters_;
  int64_t max_rank_ = 0;

  // The step in progress.
  std::vector<const DeviceAdapter*> used_;
  std::vector<cuda::LoraRun> runs_;
  StepSection<cuda::LoraAdapter> adapter_section_;  // by layer, product and adapter
  StepSection<cuda::LoraPart> part_section_;
  StepSection<cuda::LoraRun> run_section_;
};

}  // namespace autoglm::gpu
