// What the outside sees of a load in progress, and how it interferes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace autoglm {

struct LoadControl {
  std::atomic<int64_t> loaded_bytes{0};
  std::atomic<int64_t> total_bytes{0};
  // Called between pieces, from any of the pool's threads: throws to stop the load.
  std::function<void()> check;
};

}  // namespace autoglm
