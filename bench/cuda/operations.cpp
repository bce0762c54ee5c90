#include "operations.h"

#include <algorithm>
#include <cmath>

namespace autoglm::bench {

double Distance::value() const {
  return length_ == 0 ? std::sqrt(difference_) : std::sqrt(difference_ / length_);
}

std::vector<std::byte> snapshot(Lab& lab, const cuda::DeviceMemory& memory) {
  constexpr int64_t kMost = int64_t{32} << 20;
  return lab.read(memory.data(), std::min(kMost, static_cast<int64_t>(memory.size())));
}

}  // namespace autoglm::bench
