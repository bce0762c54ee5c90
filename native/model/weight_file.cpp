#include "model/weight_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <system_error>

#include "base/error.h"

namespace autoglm {
namespace {

constexpr double kMtimeToleranceMs = 1;       // JavaScript sees nanoseconds as a float64 of milliseconds
constexpr size_t kMaxRead = size_t{1} << 30;  // Linux reads at most 2 GiB at once

std::string system_message(int error) { return std::generic_category().message(error); }

double mtime_ms(const struct stat& status) {
#ifdef __APPLE__
  const timespec& time = status.st_mtimespec;
#else
  const timespec& time = status.st_mtim;
#endif
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (descriptor_ >= 0) close(descriptor_);
}

// O_NONBLOCK: opening a FIFO would wait for a writer; it has no effect on regular files.
WeightFile::WeightFile(const ModelFile& file)
    : path_(file.path),
      size_(file.size),
      mtime_ms_(file.mtime_ms),
      descriptor_(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_.get() < 0) {
    const int error = errno;
    throw Error(error == ENOENT ? ErrorCode::model_file_changed : ErrorCode::invalid_model_file,
                path_ + " cannot be opened: " + system_message(error));
  }
  check_unchanged();
}

void WeightFile::check_unchanged() const {
  struct stat status{};
  const bool is_known = fstat(descriptor_.get(), &status) == 0;
  std::string complaint;
  ErrorCode code = ErrorCode::model_file_changed;
  if (!is_known || !S_ISREG(status.st_mode)) {
    code = ErrorCode::invalid_model_file;
    complaint = " is not a regular file";
  } else if (status.st_size != size_) {
    complaint = " has " + std::to_string(status.st_size) + " bytes, it had " + std::to_string(size_) +
                " when its header was read";
  } else if (std::abs(mtime_ms(status) - mtime_ms_) > kMtimeToleranceMs) {
    complaint = " was modified after its header was read";
  }
  if (!complaint.empty()) throw Error(code, path_ + complaint);
}

void WeightFile::read(int64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = pread(descriptor_.get(), bytes.data(), std::min(bytes.size(), kMaxRead), offset);
    if (count < 0) {
      if (errno == EINTR) continue;
      const int error = errno;
      throw Error(ErrorCode::invalid_model_file,
                  path_ + " cannot be read at byte " + std::to_string(offset) + ": " + system_message(error));
    }
    if (count == 0) {
      throw Error(ErrorCode::model_file_changed, path_ + " ends at byte " + std::to_string(offset) +
                                                     ", it had " + std::to_string(size_) +
                                                     " bytes when opened");
    }
    offset += count;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

}  // namespace autoglm
