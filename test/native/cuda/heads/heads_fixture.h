// Products of heads between strided layouts, and what they come to in float64.
#pragma once

#include <vector>

#include "cuda/bf16.h"
#include "cuda/heads/heads_product.h"
#include "emulated_launch.h"
#include "random_values.h"

namespace autoglm::test {

struct HeadsShape {
  int64_t rows = 1;
  int64_t heads = 1;
  int64_t n = 8;
  int64_t k = 8;
  bool is_f32_in = false;
  bool is_f32_out = false;
  int64_t in_gap = 0;   // columns of a head that the product does not read; NaN
  int64_t out_gap = 0;  // columns of a head that it does not write
};

// Vectors of 16 bytes aligned as the device's memory is.
template <typename T>
struct AlignedVector {
  explicit AlignedVector(const std::vector<T>& values) : words(values.size() * sizeof(T) / 16 + 1) {
    std::copy(values.begin(), values.end(), data());
  }
  T* data() { return reinterpret_cast<T*>(words.data()); }

  struct alignas(16) Word {
    std::byte bytes[16];
  };
  std::vector<Word> words;
};

class HeadsCase {
 public:
  HeadsCase(const HeadsShape& shape, Random& random)
      : shape_(shape),
        w_(to_bf16s(random.normals(shape.heads * shape.n * shape.k))),
        in_(shape.rows * shape.heads * in_width(), NAN) {
    for (int64_t row = 0; row < shape.rows * shape.heads; ++row) {
      for (int64_t i = 0; i < shape.k; ++i) in_[row * in_width() + i] = random.normal();
    }
  }

  int64_t in_width() const { return shape_.k + shape_.in_gap; }
  int64_t out_width() const { return shape_.n + shape_.out_gap; }

  // All rows from `first` on; `kernel` in place of the one that the launch chooses.
  std::vector<float> run(const emulator::Schedule& schedule, const char* kernel = nullptr, int64_t first = 0,
                         int64_t num_rows = -1) {
    if (num_rows < 0) num_rows = shape_.rows - first;
    AlignedVector<cuda::Bf16> w(w_);
    AlignedVector<float> in(in_);
    AlignedVector<cuda::Bf16> in_bf16(to_bf16s(in_));
    std::vector<float> out(num_rows * shape_.heads * out_width(), NAN);
    std::vector<cuda::Bf16> out_bf16(out.size(), cuda::Bf16{0xffff});
    cuda::HeadsProductArgs args;
    args.w = w.data();
    const int64_t offset = first * shape_.heads * in_width();
    if (shape_.is_f32_in) {
      args.in = in.data() + offset;
    } else {
      args.in_bf16 = in_bf16.data() + offset;
    }
    if (shape_.is_f32_out) {
      args.out = out.data();
    } else {
      args.out_bf16 = out_bf16.data();
    }
    args.in_row_stride = shape_.heads * in_width();
    args.in_head_stride = in_width();
    args.out_row_stride = shape_.heads * out_width();
    args.out_head_stride = out_width();
    args.num_rows = static_cast<int32_t>(num_rows);
    args.num_heads = static_cast<int32_t>(shape_.heads);
    args.n = static_cast<int32_t>(shape_.n);
    args.k = static_cast<int32_t>(shape_.k);
    cuda::LaunchShape shape = heads_product_launch(args);
    if (kernel != nullptr) shape.kernel = kernel;
    launch(shape, args, schedule);
    return shape_.is_f32_out ? out : to_floats(out_bf16);
  }

  // The largest distance of any row and head, infinite where a gap was written.
  double largest_distance(const std::vector<float>& found) const {
    double largest = 0;
    for (int64_t row = 0; row < shape_.rows * shape_.heads; ++row) {
      const float* out = &found[row * out_width()];
      for (int64_t i = shape_.n; i < out_width(); ++i) {
        if (!std::isnan(out[i])) return INFINITY;
      }
      std::vector<double> expected;
      for (int64_t i = 0; i < shape_.n; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < shape_.k; ++j) {
          sum += double{to_float(w_[(row % shape_.heads * shape_.n + i) * shape_.k + j])} *
                 in_[row * in_width() + j];
        }
        expected.push_back(sum);
      }
      const double distance = relative_distance(std::vector<float>(out, out + shape_.n), expected);
      if (std::isnan(distance)) return INFINITY;
      largest = std::max(largest, distance);
    }
    return largest;
  }

 private:
  HeadsShape shape_;
  std::vector<cuda::Bf16> w_;
  std::vector<float> in_;
};

}  // namespace autoglm::test
