// What the sampling kernels keep between each other in device memory, and inside a block in shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/sampling/sampling.h"

namespace autoglm::cuda {

inline constexpr int kSamplingThreads = 512;
inline constexpr int kSamplingWarps = kSamplingThreads / 32;
// Tokens of one block: the halves of so many weights, of 19 and 18 bits, have sums of 32 bits.
inline constexpr int kSliceTokens = 8192;
inline constexpr int kMaxSlices = (1 << 20) / kSliceTokens;
inline constexpr int kTokensPerLoad = 4;
inline constexpr int kLoads = kSliceTokens / kSamplingThreads / kTokensPerLoad;
inline constexpr int kLowBits = 19;
// Classes of likelihood that the first look at a limited row sorts its tokens into; one thread each.
inline constexpr int kBins = kSamplingThreads;
// Tokens of a row that one block settles in shared memory; ties of more are settled over the row itself.
inline constexpr int kListTokens = 2048;
inline constexpr int kDigits = 256;  // values of the digit that a radix selection looks at
// Threads that bring forward one of a slice's likeliest tokens together. 20 such groups have at most
// kTopCandidates tokens, and so have the likeliest 20 of all slices.
inline constexpr int kGroupThreads = 8;
inline constexpr int kNumGroups = kSamplingThreads / kGroupThreads;
inline constexpr int kTopCandidates = kMaxTopTokens * (kSliceTokens / kNumGroups);
static_assert(kTopCandidates >= kMaxSlices * kMaxTopTokens);

// What a scan found in one slice.
struct SlicePartial {
  uint64_t best = 0;  // largest likelihood_rank after adjustments; kPoisoned after a logit that is not finite
  uint64_t raw_mass = 0;  // weights of the logits before adjustments, at temperature 1, relative to raw_max
  float raw_max = 0;
  float lowest = 0;  // of the finite logits after adjustments
};
inline constexpr uint64_t kPoisoned = ~uint64_t{0};

// What is known of a row from kernel to kernel.
struct RowState {
  double normalizer = 0;  // log of the sum of exp(logit), if asked for
  float max_logit = 0;
  float lowest_logit = 0;
  int32_t is_settled = 0;  // its token has been drawn, or none will be
  // Of limited rows. Bins before `first_open` are kept, as far as min-p allows; the open ones, and the one
  // that top-k ends in, hold borders; others are dropped.
  int32_t first_open = 0;
  int32_t last_open = 0;
  int32_t count_bin = 0;      // kBins when top-k ends nowhere
  uint32_t count_before = 0;  // tokens before the count bin
  uint64_t mass_before = 0;   // of them
  uint64_t mass_before_open = 0;
  uint64_t mass = 0;  // of all tokens
};

// Of the per-slice counts of a limited row.
struct SliceBins {
  uint64_t masses[kBins];
  uint32_t counts[kBins];
};

// Bits of a word of `counts`; the others say how often the token occurs in the output.
inline constexpr uint32_t kIsInPrompt = 1u << 31;
inline constexpr uint32_t kHasBias = 1u << 30;

constexpr int64_t slices_of(int64_t vocab_size) { return ceil_div(vocab_size, kSliceTokens); }
constexpr int64_t padded_vocab(int64_t vocab_size) {
  return ceil_div(vocab_size, kTokensPerLoad) * kTokensPerLoad;
}

// For sums and searches of a block.
struct BlockScratch {
  uint64_t of_warps[kSamplingWarps];
  uint64_t found;
  uint64_t amount;
  uint32_t is_last;
};

// Counts and weights of up to kSliceTokens tokens by class, the weights as low and high halves.
template <int kClasses>
struct ClassSums {
  uint32_t counts[kClasses];
  uint32_t low[kClasses];
  uint32_t high[kClasses];
};

struct ScanStorage {
  BlockScratch scratch;
  uint64_t groups[kNumGroups];
  uint64_t candidates[kTopCandidates];
  uint32_t num_candidates;
};

struct WeighStorage {
  BlockScratch scratch;
  ClassSums<kBins> bins;
  uint64_t border_sums[3];
  int32_t border_bin;
};

struct LimitStorage {
  BlockScratch scratch;
  ClassSums<kDigits> classes;  // by digit or by slice
  uint64_t list[kListTokens];
  uint64_t rest;
  uint64_t mass;
  int32_t digit;
  uint32_t is_found;
};
static_assert(kMaxSlices <= kDigits);

}  // namespace autoglm::cuda
