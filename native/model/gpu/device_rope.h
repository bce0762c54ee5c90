// Rope tables on a GPU, and the angles of a step's rows by them.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"
#include "model/decoder_spec.h"
#include "model/gpu/device_step.h"

namespace autoglm::gpu {

// The rope tables that layers name, each with those that rows may take in its place.
class DeviceRope {
 public:
  DeviceRope(const DecoderSpec& spec, int64_t num_row_tables, int64_t max_rows, cuda::Stream& stream);
  // Queues the angles of all rows of a step.
  void compute(const DeviceStep& step, cuda::Stream& stream) const;
  const float* angles(size_t table) const { return tables_[table].cos_sin; }

 private:
  struct Table {
    const double* frequencies = nullptr;
    const float* factors = nullptr;
    float* cos_sin = nullptr;
    int32_t num_pairs = 0;
  };
  cuda::Arena arena_;
  std::vector<Table> tables_;
  bool has_row_tables_;
};

}  // namespace autoglm::gpu
