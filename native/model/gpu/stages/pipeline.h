// A model's layers on one GPU or several, one behind the other: the first has the embedding unless the
// processor computes layers before it, the last one the head.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/gpu/stages/stage.h"
#include "model/gpu/stages/stage_link.h"

namespace autoglm::gpu {

// A device with the layers from `first_layer` up to those of the next place.
struct StagePlace {
  std::shared_ptr<cuda::Context> context;
  int64_t first_layer = 0;
};

class Pipeline {
 public:
  // At least one place, in the order of the layers, no device twice; limits.first_layer is not read.
  // `weights` may be freed afterwards. Throws what Stage and StageLink throw.
  Pipeline(std::span<const StagePlace> places, const DecoderSpec& spec, const DecoderWeights& weights,
           cuda::KvType kv_type, GpuLimits limits, ThreadPool& pool, LoadControl& control);
  ~Pipeline() { settle(); }
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  size_t num_stages() const { return stages_.size(); }
  Stage& first() { return *stages_.front(); }
  Stage& last() { return *stages_.back(); }
  const Stage& last() const { return *stages_.back(); }

  // As those of a stage, of all of them.
  void plan(std::span<const SequenceChunk> chunks);
  void run();
  void wait();
  // For what is freed afterwards: waits as far as the devices still answer.
  void settle() noexcept;

  void forget_adapter(const Adapter& adapter);
  int64_t weight_bytes() const;
  int64_t kv_bytes() const;
  int64_t scratch_bytes() const;
  int64_t num_host_bytes() const;  // page-locked memory between the stages

 private:
  std::vector<std::unique_ptr<Stage>> stages_;
  std::vector<std::unique_ptr<StageLink>> links_;  // behind each stage but the last
  int64_t hidden_size_;
};

}  // namespace autoglm::gpu
