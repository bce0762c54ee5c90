// Packed weights kept in a file: the arena of DecoderWeights, byte by byte, cut in sections with a checksum
// each. The file's header is TypeScript's business (lib/model/packed-cache); only these bytes come here.
// Why and when: docs/decisions/0012-packed-weights-on-disk.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "memory/region.h"
#include "model/load_control.h"

namespace autoglm {

struct PackedFile {
  std::string path;
  int64_t offset = 0;  // of the first section; a multiple of the system's page size
  int64_t num_bytes = 0;
  int64_t section_bytes = 0;        // the last section may be shorter
  std::vector<uint64_t> checksums;  // Hash64 of each section
  uint64_t sample = 0;              // sample_sources of the files it was made from
  bool is_shared = false;           // mapped and shared with other processes, instead of copied
};

// The bytes in memory, every section checked on the pool's threads. Throws invalid_model_file for a file that
// is too short, cannot be read or does not match a checksum, and out_of_memory.
MemoryRegion read_packed_file(const PackedFile& file, ThreadPool& pool, LoadControl& control);

// Writes `bytes` to the existing file at `offset` and gives the checksums of the sections. `check` is called
// between sections and throws to stop. Throws invalid_model_file when the device refuses, e.g. because it is
// full.
std::vector<uint64_t> write_packed_file(const std::string& path, int64_t offset, int64_t section_bytes,
                                        std::span<const std::byte> bytes, const std::function<void()>& check);

}  // namespace autoglm
