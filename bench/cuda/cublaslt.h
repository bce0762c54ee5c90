// cuBLASLt as the measure of our products, opened where it is found. Nothing of it is needed to build.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/bf16.h"
#include "cuda/driver/stream.h"

namespace autoglm::bench {

struct CublasLtFunctions;

class CublasLt {
 public:
  // `library`: a path, or empty for the usual names. `is_present` says whether it was found.
  CublasLt(cuda::Stream& stream, const std::string& library);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  bool is_present() const { return functions_ != nullptr; }
  const std::string& description() const { return description_; }

 private:
  friend class CublasLtProduct;
  std::unique_ptr<CublasLtFunctions> functions_;
  void* handle_ = nullptr;
  std::string description_;
};

// out[r, i] = sum over j of w[i, j] * in[r, j], all bf16, sums in f32, rows without gaps.
class CublasLtProduct {
 public:
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;  // what NVIDIA advises for Hopper

  CublasLtProduct(const CublasLt& library, int64_t num_rows, int64_t n, int64_t k);
  ~CublasLtProduct();
  CublasLtProduct(const CublasLtProduct&) = delete;
  CublasLtProduct& operator=(const CublasLtProduct&) = delete;

  // What its heuristic proposes, best first.
  int num_algorithms() const { return num_algorithms_; }
  void enqueue(cuda::Stream& stream, int algorithm, const cuda::Bf16* w, const cuda::Bf16* in,
               cuda::Bf16* out, void* workspace) const;

 private:
  struct Algorithms;
  const CublasLt& library_;
  void* description_ = nullptr;
  void* w_layout_ = nullptr;
  void* in_layout_ = nullptr;
  void* out_layout_ = nullptr;
  std::unique_ptr<Algorithms> algorithms_;
  int num_algorithms_ = 0;
};

}  // namespace autoglm::bench
