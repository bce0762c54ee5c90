// Pooled vectors of requests that arrive in chunks, bit for bit as runtime/pooled_requests.cpp sums them.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "cuda/bf16.h"
#include "cuda/pooling/pool_rows.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {
namespace {

enum class Kind : uint8_t { first, mean, last };

struct Request {
  Kind kind;
  int32_t num_tokens;
  int32_t num_done = 0;
  std::vector<float> hidden;  // [num_tokens, hidden_size]
};

// The rows of a chunk that count, as PoolWork says it.
cuda::PoolWork work_of_chunk(const Request& request, int32_t first_row, int32_t count) {
  cuda::PoolWork work;
  const bool is_last = request.num_done + count == request.num_tokens;
  work.begins = request.num_done == 0;
  work.first_row = first_row;
  work.num_rows = count;
  if (request.kind == Kind::first) work.num_rows = work.begins ? 1 : 0;
  if (request.kind == Kind::last) {
    work.first_row += count - 1;
    work.num_rows = is_last ? 1 : 0;
  }
  work.divisor = request.kind == Kind::mean ? request.num_tokens : 1;
  return work;
}

bool is_open(const Request& request) { return request.num_done < request.num_tokens; }

void append_vector(const Request& request, int64_t hidden_size, std::vector<float>& out) {
  for (int64_t col = 0; col < hidden_size; ++col) {
    const auto value = [&](int64_t row) { return request.hidden[row * hidden_size + col]; };
    double sum = 0;
    for (int64_t row = 0; row < request.num_tokens; ++row) sum += value(row);
    out.push_back(request.kind == Kind::first  ? value(0)
                  : request.kind == Kind::last ? value(request.num_tokens - 1)
                                               : static_cast<float>(sum / request.num_tokens));
  }
}

// Whether requests get their vectors from steps of random chunks; `kernel` in place of the one that the
// launch chooses.
bool pools(int shape, const emulator::Schedule& schedule, const char* kernel = nullptr) {
  Random random(100 + shape);
  const int64_t edges[] = {1, 63, 64, 65, 128, 200};
  const int64_t hidden_size = edges[random.below(6)];
  const int64_t stride = hidden_size + random.below(4);
  std::vector<Request> requests(1 + random.below(4));
  for (Request& request : requests) {
    request.kind = static_cast<Kind>(random.below(3));
    request.num_tokens = static_cast<int32_t>(1 + random.below(70));
    request.hidden = random.normals(request.num_tokens * hidden_size);
  }
  const int64_t num_values = static_cast<int64_t>(requests.size()) * hidden_size;
  std::vector<double> sums(num_values, NAN);
  std::vector<float> vectors(num_values, NAN);
  while (std::ranges::any_of(requests, is_open)) {
    std::vector<float> hidden;
    std::vector<cuda::PoolWork> work;
    for (size_t i = 0; i < requests.size(); ++i) {
      Request& request = requests[i];
      if (!is_open(request) || random.below(4) == 0) continue;
      const auto count = static_cast<int32_t>(1 + random.below(request.num_tokens - request.num_done));
      const auto first_row = static_cast<int32_t>(static_cast<int64_t>(hidden.size()) / stride);
      work.push_back(work_of_chunk(request, first_row, count));
      work.back().sum = static_cast<int32_t>(i);
      for (int32_t row = 0; row < count; ++row) {
        const auto from = request.hidden.begin() + (request.num_done + row) * hidden_size;
        hidden.insert(hidden.end(), from, from + hidden_size);
        hidden.resize(hidden.size() + stride - hidden_size, NAN);
      }
      request.num_done += count;
      if (!is_open(request)) work.back().vector = static_cast<int32_t>(i);
    }
    const cuda::PoolArgs args{.hidden = hidden.data(),
                              .work = work.data(),
                              .sums = sums.data(),
                              .vectors = vectors.data(),
                              .hidden_stride = stride,
                              .num_work = static_cast<int32_t>(work.size()),
                              .hidden_size = static_cast<int32_t>(hidden_size)};
    cuda::LaunchShape launched = pool_rows_launch(args);
    if (kernel != nullptr && launched.kernel != nullptr) launched.kernel = kernel;
    launch(launched, args, schedule);
  }
  std::vector<float> expected;
  for (const Request& request : requests) append_vector(request, hidden_size, expected);
  return vectors == expected;
}

TEST(CudaPoolRows, EqualsTheSumOverAllTokensWhateverTheChunks) {
  for (int shape = 0; shape < kNumShapes; ++shape) {
    EXPECT_TRUE(pools(shape, schedule_of(shape))) << "shape " << shape;
  }
}

TEST(CudaPoolRows, HasNothingToDoWithoutWork) { EXPECT_EQ(cuda::pool_rows_launch({}).kernel, nullptr); }

#if defined(AUTOGLM_HAS_PLANTED_FAULTS)
// Goal: the comparison above would notice faults. Method: they are planted in copies of the kernel
// (planted.cmake), for each of which it must fail.
TEST(CudaPoolRows, FailsWithAPlantedFault) {
  for (const char* fault : {"planted_pool_keeps_sum", "planted_pool_row_too_few", "planted_pool_in_f32"}) {
    int num_failed = 0;
    for (int shape = 0; shape < 30; ++shape) num_failed += pools(shape, schedule_of(shape), fault) ? 0 : 1;
    EXPECT_GT(num_failed, 0) << fault;
  }
}
#endif

}  // namespace
}  // namespace autoglm::test
