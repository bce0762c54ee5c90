// The router of a mixture of experts: which experts a row runs through, and with what weight.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/expert_params.h"
#include "ops/execution.h"

namespace autoglm {

// Throws invalid_parameter for shapes that do not agree and for groups that do not divide the experts or hold
// too few.
void route(const Execution& execution, const RouteParams& params);

// The (row, expert) pairs of a step in the order of their numbers. Keeps its memory from step to step.
class ExpertPairs {
 public:
  // `experts` is RouteParams::experts. Throws invalid_parameter for experts outside 0..num_experts-1.
  void build(TensorView<const int32_t> experts, int64_t num_experts);

  int64_t count() const { return static_cast<int64_t>(rows_.size()); }
  // The row of each pair.
  std::span<const int32_t> rows() const { return rows_; }
  // Pairs of one expert: [first_of(e), first_of(e + 1)).
  int64_t first_of(int64_t expert) const { return first_[static_cast<size_t>(expert)]; }
  // The pair of each (row, chosen expert), shaped as `experts` was.
  TensorView<const int32_t> of_rows() const { return {pair_of_.data(), num_rows_, num_chosen_}; }

 private:
  int64_t num_rows_ = 0;
  int64_t num_chosen_ = 0;
  std::vector<int32_t> first_;
  std::vector<int32_t> next_;
  std::vector<int32_t> rows_;
  std::vector<int32_t> pair_of_;
};

}  // namespace autoglm
