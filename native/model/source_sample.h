// A fingerprint of the files that weights come from, cheap enough for every load: it tells a model from
// another one of the same shape, size, name and time, but not from one whose bytes differ here and there.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "model/weight_file.h"
#include "model/weight_layout.h"

namespace autoglm {

// Hash64 over some bytes from the middle of every slice, in the order of the layout. The slices must lie
// inside their files.
uint64_t sample_sources(const WeightLayout& layout, std::span<const WeightFile> files, ThreadPool& pool);

}  // namespace autoglm
