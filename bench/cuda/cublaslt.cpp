// The interface of cublasLt.h as far as it is called here, declared by hand. Source: cuBLAS documentation,
// section "cuBLASLt API"; the values have been the same since version 11.
#include "cublaslt.h"

#include <dlfcn.h>

#include <stdexcept>

namespace autoglm::bench {
namespace {

using Status = int;
constexpr int kTypeF32 = 0;       // CUDA_R_32F
constexpr int kTypeBf16 = 14;     // CUDA_R_16BF
constexpr int kComputeF32 = 68;   // CUBLAS_COMPUTE_32F
constexpr int kTransposeA = 3;    // CUBLASLT_MATMUL_DESC_TRANSA
constexpr int kTransposed = 1;    // CUBLAS_OP_T
constexpr int kMaxWorkspace = 1;  // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
constexpr int kMaxAlgorithms = 4;

struct Algorithm {
  uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float num_waves;
  int reserved[4];
};

void check(Status status, const char* what) {
  if (status != 0) throw std::runtime_error(std::string(what) + " returned " + std::to_string(status));
}

}  // namespace

struct CublasLtFunctions {
  Status (*cublasLtCreate)(void** handle);
  Status (*cublasLtDestroy)(void* handle);
  size_t (*cublasLtGetVersion)();
  Status (*cublasLtMatmulDescCreate)(void** description, int compute_type, int scale_type);
  Status (*cublasLtMatmulDescDestroy)(void* description);
  Status (*cublasLtMatmulDescSetAttribute)(void* description, int attribute, const void* value, size_t bytes);
  Status (*cublasLtMatrixLayoutCreate)(void** layout, int type, uint64_t rows, uint64_t cols, int64_t stride);
  Status (*cublasLtMatrixLayoutDestroy)(void* layout);
  Status (*cublasLtMatmulPreferenceCreate)(void** preference);
  Status (*cublasLtMatmulPreferenceDestroy)(void* preference);
  Status (*cublasLtMatmulPreferenceSetAttribute)(void* preference, int attribute, const void* value,
                                                 size_t bytes);
  Status (*cublasLtMatmulAlgoGetHeuristic)(void* handle, void* description, void* a, void* b, void* c,
                                           void* d, void* preference, int num_wanted,
                                           HeuristicResult* results, int* num_found);
  Status (*cublasLtMatmul)(void* handle, void* description, const void* alpha, const void* a, void* a_layout,
                           const void* b, void* b_layout, const void* beta, const void* c, void* c_layout,
                           void* d, void* d_layout, const Algorithm* algorithm, void* workspace,
                           size_t workspace_bytes, cuda::CUstream stream);
};

namespace {

template <typename Function>
bool find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  return function != nullptr;
}

std::unique_ptr<CublasLtFunctions> load(void* library) {
  auto found = std::make_unique<CublasLtFunctions>();
#define AUTOGLM_FIND(name) find(library, #name, found->name)
  const bool has_all =
      AUTOGLM_FIND(cublasLtCreate) && AUTOGLM_FIND(cublasLtDestroy) && AUTOGLM_FIND(cublasLtGetVersion) &&
      AUTOGLM_FIND(cublasLtMatmulDescCreate) && AUTOGLM_FIND(cublasLtMatmulDescDestroy) &&
      AUTOGLM_FIND(cublasLtMatmulDescSetAttribute) && AUTOGLM_FIND(cublasLtMatrixLayoutCreate) &&
      AUTOGLM_FIND(cublasLtMatrixLayoutDestroy) && AUTOGLM_FIND(cublasLtMatmulPreferenceCreate) &&
      AUTOGLM_FIND(cublasLtMatmulPreferenceDestroy) && AUTOGLM_FIND(cublasLtMatmulPreferenceSetAttribute) &&
      AUTOGLM_FIND(cublasLtMatmulAlgoGetHeuristic) && AUTOGLM_FIND(cublasLtMatmul);
#undef AUTOGLM_FIND
  if (!has_all) return nullptr;
  return found;
}

}  // namespace

CublasLt::CublasLt(cuda::Stream& stream, const std::string& library) {
  std::vector<std::string> names = {library};
  if (library.empty()) names = {"libcublasLt.so.13", "libcublasLt.so.12"};
  for (const std::string& name : names) {
    void* opened = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (opened == nullptr) continue;
    std::unique_ptr<CublasLtFunctions> functions = load(opened);
    if (functions == nullptr) continue;
    const cuda::Context::Current current(stream.context());
    if (functions->cublasLtCreate(&handle_) != 0) continue;
    description_ = name + ", version " + std::to_string(functions->cublasLtGetVersion());
    functions_ = std::move(functions);
    return;
  }
  description_ = "not found";
}

CublasLt::~CublasLt() {
  if (functions_ != nullptr) functions_->cublasLtDestroy(handle_);
}

struct CublasLtProduct::Algorithms {
  HeuristicResult results[kMaxAlgorithms] = {};
};

// cuBLAS counts columns first: our rows of `in` and `out` are its columns, and `w` is transposed.
CublasLtProduct::CublasLtProduct(const CublasLt& library, int64_t num_rows, int64_t n, int64_t k)
    : library_(library), algorithms_(std::make_unique<Algorithms>()) {
  const CublasLtFunctions& functions = *library.functions_;
  check(functions.cublasLtMatmulDescCreate(&description_, kComputeF32, kTypeF32), "cublasLtMatmulDescCreate");
  check(
      functions.cublasLtMatmulDescSetAttribute(description_, kTransposeA, &kTransposed, sizeof(kTransposed)),
      "cublasLtMatmulDescSetAttribute");
  check(functions.cublasLtMatrixLayoutCreate(&w_layout_, kTypeBf16, k, n, k), "cublasLtMatrixLayoutCreate");
  check(functions.cublasLtMatrixLayoutCreate(&in_layout_, kTypeBf16, k, num_rows, k),
        "cublasLtMatrixLayoutCreate");
  check(functions.cublasLtMatrixLayoutCreate(&out_layout_, kTypeBf16, n, num_rows, n),
        "cublasLtMatrixLayoutCreate");
  void* preference = nullptr;
  check(functions.cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  const auto workspace_bytes = static_cast<uint64_t>(kWorkspaceBytes);
  check(functions.cublasLtMatmulPreferenceSetAttribute(preference, kMaxWorkspace, &workspace_bytes,
                                                       sizeof(workspace_bytes)),
        "cublasLtMatmulPreferenceSetAttribute");
  const Status status = functions.cublasLtMatmulAlgoGetHeuristic(
      library.handle_, description_, w_layout_, in_layout_, out_layout_, out_layout_, preference,
      kMaxAlgorithms, algorithms_->results, &num_algorithms_);
  functions.cublasLtMatmulPreferenceDestroy(preference);
  check(status, "cublasLtMatmulAlgoGetHeuristic");
}

CublasLtProduct::~CublasLtProduct() {
  const CublasLtFunctions& functions = *library_.functions_;
  for (void* layout : {w_layout_, in_layout_, out_layout_}) functions.cublasLtMatrixLayoutDestroy(layout);
  functions.cublasLtMatmulDescDestroy(description_);
}

void CublasLtProduct::enqueue(cuda::Stream& stream, int algorithm, const cuda::Bf16* w, const cuda::Bf16* in,
                              cuda::Bf16* out, void* workspace) const {
  const float one = 1;
  const float zero = 0;
  const cuda::Context::Current current(stream.context());
  check(library_.functions_->cublasLtMatmul(library_.handle_, description_, &one, w, w_layout_, in,
                                            in_layout_, &zero, out, out_layout_, out, out_layout_,
                                            &algorithms_->results[algorithm].algorithm, workspace,
                                            kWorkspaceBytes, stream.get()),
        "cublasLtMatmul");
}

}  // namespace autoglm::bench
