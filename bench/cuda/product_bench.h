// A product on the device with random operands: bf16 or f16 weights, or 4-bit codes with a scale for 128 of
// them.
#pragma once

#include "cuda/product.h"
#include "operations.h"

namespace autoglm::bench {

struct ProductShape {
  int32_t num_rows = 1;
  int32_t n = 0;
  int32_t k = 0;

  double flops() const { return 2.0 * num_rows * n * k; }
};
std::string describe(const ProductShape& shape);

class ProductCase {
 public:
  static constexpr int kGroup = 128;

  ProductCase(Lab& lab, const ProductShape& shape, cuda::DeviceLayout layout);

  // Times, distance from float64 and repeatability.
  Result run();
  Timing measure();
  void enqueue(int turn);
  // What one launch reads and writes at least.
  int64_t num_bytes() const;
  int num_turns() const { return static_cast<int>(weights_.size()); }
  // Of one turn, for others to compute the same with.
  const cuda::Bf16* weights(int turn) const { return weights_[turn].as<cuda::Bf16>(); }
  const cuda::Bf16* in() const { return in_.as<cuda::Bf16>(); }
  // Of the outputs of turn 0 in `out`, at some places.
  double distance(const cuda::DeviceMemory& out);

 private:
  int64_t weights_bytes() const;
  int64_t scales_bytes() const;
  std::vector<double> weight_row(int64_t row);

  Lab& lab_;
  ProductShape shape_;
  cuda::DeviceLayout layout_;
  std::vector<cuda::DeviceMemory> weights_;
  std::vector<cuda::DeviceMemory> scales_;
  cuda::DeviceMemory in_;
  cuda::DeviceMemory out_;
  cuda::DeviceMemory workspace_;
  cuda::ProductArgs args_;
};

}  // namespace autoglm::bench
