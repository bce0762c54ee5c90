// A file of weights, opened for reading. Read with pread, never mapped: a file that shrinks is an error, not
// a SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "model/weight_source.h"

namespace autoglm {

class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor) : descriptor_(descriptor) {}
  FileDescriptor(FileDescriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  ~FileDescriptor();

  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

class WeightFile {
 public:
  // Throws model_file_changed when the file is gone or its size or modification time differ from `file`, and
  // invalid_model_file when it is not a regular file or cannot be opened.
  explicit WeightFile(const ModelFile& file);

  // Fills `bytes` from `offset`. Safe from several threads. Throws model_file_changed when the file has
  // become too short, invalid_model_file when the device reports an error.
  void read(int64_t offset, std::span<std::byte> bytes) const;

  // Throws as the constructor does: a writer may have been at work while the file was read.
  void check_unchanged() const;

  int64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int64_t size_ = 0;
  double mtime_ms_ = 0;
  FileDescriptor descriptor_;
};

}  // namespace autoglm
