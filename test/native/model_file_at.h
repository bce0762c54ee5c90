// A file of weights as a load names it: with the size and the time that it has now.
#pragma once

#include <sys/stat.h>

#include <string>

#include "model/weight_source.h"

namespace autoglm::test {

inline ModelFile model_file_at(const std::string& path) {
  struct stat status{};
  stat(path.c_str(), &status);
  return {.path = path,
          .size = status.st_size,
          .mtime_ms = static_cast<double>(status.st_mtim.tv_sec) * 1e3 +
                      static_cast<double>(status.st_mtim.tv_nsec) / 1e6};
}

}  // namespace autoglm::test
