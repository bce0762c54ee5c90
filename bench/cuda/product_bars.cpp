// G4 to G6: bf16 products beside cuBLASLt, those with f16 and 4-bit weights beside our own of bf16.
#include <algorithm>
#include <optional>

#include "product_bench.h"

namespace autoglm::bench {
namespace {

// Layers of an 8B model: q, k and v together, output, gate and up together, down.
struct Layer {
  int32_t n;
  int32_t k;
};
constexpr Layer kLayers[] = {{6144, 4096}, {4096, 4096}, {28'672, 4096}, {4096, 14'336}};
constexpr int32_t kRows[] = {512, 2048, 8192};

std::vector<ProductShape> dense_shapes(bool is_toy) {
  if (is_toy) return {{130, 136, 72}, {20, 64, 128}};
  std::vector<ProductShape> shapes = {{8192, 8192, 8192}};
  for (const int32_t rows : kRows) {
    for (const Layer& layer : kLayers) shapes.push_back({rows, layer.n, layer.k});
  }
  return shapes;
}

std::vector<ProductShape> f16_shapes(bool is_toy) {
  if (is_toy) return {{130, 136, 72}, {20, 64, 128}, {2, 64, 128}};
  return {{8192, 8192, 8192}, {32, 28'672, 4096}, {1, 28'672, 4096}};
}

struct PeerTiming {
  Timing timing;
  double distance = 0;
};

// The fastest of what its heuristic proposes, on the same operands.
std::optional<PeerTiming> measure_cublaslt(Lab& lab, const CublasLt& cublaslt, const ProductShape& shape,
                                           ProductCase& ours) {
  if (!cublaslt.is_present()) return std::nullopt;
  const CublasLtProduct product(cublaslt, shape.num_rows, shape.n, shape.k);
  const cuda::DeviceMemory out = lab.allocate(int64_t{shape.num_rows} * shape.n * 2);
  const cuda::DeviceMemory workspace = lab.allocate(CublasLtProduct::kWorkspaceBytes);
  std::optional<PeerTiming> best;
  for (int algorithm = 0; algorithm < product.num_algorithms(); ++algorithm) {
    const auto enqueue = [&](int turn) {
      product.enqueue(lab.stream(), algorithm, ours.weights(turn), ours.in(), out.as<cuda::Bf16>(),
                      workspace.data());
    };
    const Timing timing = lab.measure(ours.num_turns(), enqueue);
    if (best && timing.median >= best->timing.median) continue;
    enqueue(0);
    best = {timing, ours.distance(out)};
  }
  return best;
}

// One bf16 product, before and after cuBLASLt.
void measure_dense(Lab& lab, const CublasLt& cublaslt, const ProductShape& shape, Ceilings& ceilings,
                   Results& results) {
  ProductCase ours(lab, shape, cuda::DeviceLayout::bf16);
  Result result = ours.run();
  result.bar = "G4";
  result.what = "bf16 product, " + describe(shape);
  result.value = shape.flops() / result.timing.median * 1e-12;
  result.unit = "TFLOPS";
  const std::optional<PeerTiming> peer = measure_cublaslt(lab, cublaslt, shape, ours);
  if (peer) {
    const double again = ours.measure().median;
    const double seconds = (result.timing.median + again) / 2;
    result.aside = {{"TFLOPS", result.value},
                    {"cuBLASLt", shape.flops() / peer->timing.median * 1e-12},
                    {"again/first", again / result.timing.median}};
    if (!(peer->distance <= kBf16Tolerance)) result.aside.emplace_back("cuBLASLt's distance", peer->distance);
    result.value = peer->timing.median / seconds;
    result.unit = "x";
    result.bound = Bound::at_least;
    result.limit = 0.6;
    ceilings.product_rate = std::max(ceilings.product_rate, shape.flops() / peer->timing.median);
  }
  results.add(result);
  if (shape.num_rows == 8192 && shape.n == 8192) {
    results.note("underLoad", lab.load_report(result.timing.median, [&](int turn) { ours.enqueue(turn); }));
  }
}

// How fast the product is beside the same one of bf16, which is measured before and after it.
Result over_bf16(Lab& lab, const ProductShape& shape, cuda::DeviceLayout layout) {
  ProductCase dense(lab, shape, cuda::DeviceLayout::bf16);
  const double before = dense.measure().median;
  Result result = ProductCase(lab, shape, layout).run();
  const double after = dense.measure().median;
  result.value = (before + after) / 2 / result.timing.median;
  result.unit = "x";
  result.aside = {{"TFLOPS", shape.flops() / result.timing.median * 1e-12}};
  return result;
}

// What it costs that tiles turn their inputs into halves.
void measure_f16(Lab& lab, const ProductShape& shape, Results& results) {
  Result result = over_bf16(lab, shape, cuda::DeviceLayout::f16);
  result.bar = "G4";
  result.what = "f16 product over bf16, " + describe(shape);
  results.add(result);
}

// Few rows: the weights are what takes time.
void measure_few_rows(Lab& lab, const Ceilings& ceilings, const ProductShape& shape, Results& results) {
  const Timing dense = ProductCase(lab, shape, cuda::DeviceLayout::bf16).measure();
  ProductCase quantized(lab, shape, cuda::DeviceLayout::w4);
  Result speed_up = quantized.run();
  Result share = speed_up;
  speed_up.bar = share.bar = "G5";
  speed_up.what = "4-bit product over bf16, " + describe(shape);
  speed_up.value = dense.median / speed_up.timing.median;
  speed_up.unit = "x";
  speed_up.bound = Bound::at_least;
  speed_up.limit = 3;
  speed_up.aside = {{"bf16 us", dense.median * 1e6}};
  results.add(speed_up);
  share.what = "4-bit product's bytes, " + describe(shape);
  share.value = 100 * static_cast<double>(quantized.num_bytes()) / share.timing.median / ceilings.copy_rate;
  share.unit = "% copy";
  share.bound = Bound::at_least;
  share.limit = 70;
  results.add(share);
}

void measure_many_rows(Lab& lab, const ProductShape& shape, Results& results) {
  Result result = over_bf16(lab, shape, cuda::DeviceLayout::w4);
  result.bar = "G6";
  result.what = "4-bit product over bf16, " + describe(shape);
  result.bound = Bound::at_least;
  result.limit = 0.6;
  results.add(result);
}

}  // namespace

void measure_products(Lab& lab, const CublasLt& cublaslt, Ceilings& ceilings, Results& results) {
  for (const ProductShape& shape : dense_shapes(lab.is_toy())) {
    measure_dense(lab, cublaslt, shape, ceilings, results);
  }
  for (const ProductShape& shape : f16_shapes(lab.is_toy())) measure_f16(lab, shape, results);
}

void measure_quantized_products(Lab& lab, const Ceilings& ceilings, Results& results) {
  if (lab.is_toy()) {
    for (const int32_t rows : {1, 9}) measure_few_rows(lab, ceilings, {rows, 300, 256}, results);
    measure_many_rows(lab, {140, 96, 128}, results);
    return;
  }
  for (const Layer& layer : {Layer{28'672, 4096}, Layer{36'864, 12'288}}) {
    for (const int32_t rows : {1, 2, 4, 8, 16, 32}) {
      measure_few_rows(lab, ceilings, {rows, layer.n, layer.k}, results);
    }
  }
  for (const Layer& layer : {Layer{28'672, 4096}, Layer{4096, 14'336}}) {
    measure_many_rows(lab, {4096, layer.n, layer.k}, results);
  }
}

}  // namespace autoglm::bench
