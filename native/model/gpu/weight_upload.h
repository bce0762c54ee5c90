// Brings packed weights (base/packed_matrix.h) to a GPU: pieces of panels go to a staging buffer there, and
// the repack kernels write the layouts of cuda/device_matrix.h from them.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "base/packed_matrix.h"
#include "base/thread_pool.h"
#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"
#include "model/gpu/device_weights.h"
#include "model/gpu/quantized_repack.h"
#include "model/load_control.h"

namespace autoglm::gpu {

// Rows [first_row, first_row + num_rows) of a packed matrix, and where they go.
struct MatrixPart {
  PackedMatrix source;
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t first_destination_row = 0;
  PartRows rows = PartRows::plain;
};

// What a matrix becomes on the device.
struct DeviceForm {
  cuda::DeviceLayout layout = cuda::DeviceLayout::bf16;
  int32_t group = 0;  // quantized: k per scale
  bool has_mins = false;

  bool operator==(const DeviceForm&) const = default;
};
// The one that all parts can have: f16 for halves; bf16 for other floats, for parts of different forms, for
// scales that are no halves, and for codes that begin within a panel. Reads the scales of long groups.
DeviceForm choose_form(std::span<const MatrixPart> parts);

// Bytes that a matrix [n, k] of this form takes of an arena.
int64_t device_matrix_bytes(const DeviceForm& form, int64_t n, int64_t k);

// Collects what is to be uploaded, so that its size is known before memory is taken. Destinations and sources
// live until `run` has returned.
class WeightUpload {
 public:
  using Parts = std::vector<MatrixPart>;

  void add_matrix(cuda::DeviceMatrix& destination, Parts parts);
  // As bf16 whatever it was.
  void add_bf16_matrix(cuda::DeviceMatrix& destination, Parts parts);
  // All experts have the same form, floats of several become bf16. Throws unsupported_model otherwise.
  void add_experts(DeviceExperts& destination, const std::vector<Parts>& experts);
  void add_vector(const float*& destination, std::vector<float> values);

  int64_t num_bytes() const { return num_bytes_; }
  // Throws out_of_memory, what control.check throws, and errors of the device. Destinations are complete once
  // the stream has done what was queued.
  cuda::Arena run(cuda::Stream& stream, ThreadPool& pool, LoadControl& control);

 private:
  struct Job {
    cuda::DeviceMatrix* destination;
    Parts parts;
    DeviceForm form;
    int64_t n = 0;
    int64_t k = 0;
  };
  struct ExpertsJob {
    DeviceExperts* destination;
    size_t first_job;  // one for each expert follows
    size_t num_experts;
  };
  struct VectorJob {
    const float** destination;
    size_t first;  // in values_
  };
  class Run;

  void add(cuda::DeviceMatrix& destination, Parts parts, const DeviceForm& form);
  void place(cuda::Arena& arena);

  std::vector<Job> jobs_;
  std::vector<ExpertsJob> experts_;
  std::deque<cuda::DeviceMatrix> expert_matrices_;  // that jobs point to
  std::vector<VectorJob> vectors_;
  std::vector<float> values_;
  int64_t num_bytes_ = 0;
};

}  // namespace autoglm::gpu
