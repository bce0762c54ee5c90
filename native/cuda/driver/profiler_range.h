// A named stretch of the calling thread in a profiler's timeline: an NVTX range. Nothing where no profiler is
// attached.
#pragma once

namespace autoglm::cuda {

class ProfilerRange {
 public:
  explicit ProfilerRange(const char* name);
  ~ProfilerRange();
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace autoglm::cuda
