#include "model/packed_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/checked.h"
#include "base/error.h"
#include "base/hash64.h"
#include "model/weight_file.h"

namespace autoglm {
namespace {

// Read and hashed at once, so that the hash finds the bytes in the cache. A multiple of Hash64's stripe.
constexpr int64_t kPieceBytes = int64_t{256} << 10;
static_assert(kPieceBytes % 32 == 0);

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::invalid_model_file, path + " " + what);
}

[[noreturn]] void refuse_errno(const std::string& path, const std::string& what) {
  const int error = errno;
  refuse(path, what + ": " + std::generic_category().message(error));
}

FileDescriptor open_file(const std::string& path, int flags) {
  FileDescriptor file(open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) refuse_errno(path, "cannot be opened");
  return file;
}

void check_whole(const FileDescriptor& descriptor, const PackedFile& file) {
  const int64_t num_sections =
      file.num_bytes < 0 || file.section_bytes < 1 ? -1 : ceil_div(file.num_bytes, file.section_bytes);
  if (file.offset < 0 || static_cast<int64_t>(file.checksums.size()) != num_sections) {
    throw Error(ErrorCode::invalid_parameter, "expected a checksum for each section of " + file.path +
                                                  ", got " + std::to_string(file.checksums.size()) + " for " +
                                                  std::to_string(file.num_bytes) + " bytes in sections of " +
                                                  std::to_string(file.section_bytes));
  }
  struct stat status{};
  if (fstat(descriptor.get(), &status) != 0 || !S_ISREG(status.st_mode))
    refuse(file.path, "is not a regular file");
  const int64_t end = checked_add(file.offset, file.num_bytes, "bytes of a packed file");
  if (status.st_size != end) {
    refuse(file.path, "has " + std::to_string(status.st_size) + " bytes, expected " + std::to_string(end));
  }
}

void read_fully(const FileDescriptor& descriptor, const std::string& path, int64_t offset,
                std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = pread(descriptor.get(), bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) refuse_errno(path, "cannot be read at byte " + std::to_string(offset));
    if (count == 0) refuse(path, "ends at byte " + std::to_string(offset));
    offset += count;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

void write_fully(const FileDescriptor& descriptor, const std::string& path, int64_t offset,
                 std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = pwrite(descriptor.get(), bytes.data(), bytes.size(), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) refuse_errno(path, "cannot be written at byte " + std::to_string(offset));
    offset += count;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
}

// Asks for the room at once: a disk that is too small then says so before it has been filled.
void reserve_room(const FileDescriptor& descriptor, const std::string& path, int64_t num_bytes) {
#ifdef __linux__
  if (num_bytes > 0 && fallocate(descriptor.get(), 0, 0, num_bytes) != 0 &&
      (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
    refuse_errno(path, "cannot take " + std::to_string(num_bytes) + " bytes");
  }
#else
  (void)descriptor, (void)path, (void)num_bytes;
#endif
}

// Walks over a section piece by piece; `visit` gets the piece's place in the section and its length.
template <typename Visit>
void for_each_piece(int64_t num_bytes, const Visit& visit) {
  for (int64_t at = 0; at < num_bytes; at += kPieceBytes) visit(at, std::min(kPieceBytes, num_bytes - at));
}

}  // namespace

MemoryRegion read_packed_file(const PackedFile& file, ThreadPool& pool, LoadControl& control) {
  const FileDescriptor descriptor = open_file(file.path, O_RDONLY);
  check_whole(descriptor, file);
  MemoryRegion region = file.is_shared ? MemoryRegion::map_file(descriptor.get(), file.offset, file.num_bytes)
                                       : MemoryRegion(file.num_bytes);
  std::byte* const memory = region.data();
  pool.run(static_cast<int64_t>(file.checksums.size()), [&](int64_t section, int) {
    control.check();
    const int64_t start = section * file.section_bytes;
    const int64_t num_bytes = std::min(file.section_bytes, file.num_bytes - start);
    Hash64 hash;
    for_each_piece(num_bytes, [&](int64_t at, int64_t size) {
      const std::span<std::byte> piece(memory + start + at, static_cast<size_t>(size));
      if (!file.is_shared) read_fully(descriptor, file.path, file.offset + start + at, piece);
      hash.add(piece);
    });
    if (hash.value() != file.checksums[static_cast<size_t>(section)]) {
      refuse(file.path, "is damaged: section " + std::to_string(section) + " does not match its checksum");
    }
    control.loaded_bytes.fetch_add(num_bytes, std::memory_order_relaxed);
  });
  return region;
}

std::vector<uint64_t> write_packed_file(const std::string& path, int64_t offset, int64_t section_bytes,
                                        std::span<const std::byte> bytes,
                                        const std::function<void()>& check) {
  const FileDescriptor descriptor = open_file(path, O_WRONLY);
  const auto num_bytes = static_cast<int64_t>(bytes.size());
  reserve_room(descriptor, path, checked_add(offset, num_bytes, "bytes of a packed file"));
  std::vector<uint64_t> checksums;
  for (int64_t start = 0; start < num_bytes; start += section_bytes) {
    check();
    const auto section = bytes.subspan(static_cast<size_t>(start),
                                       static_cast<size_t>(std::min(section_bytes, num_bytes - start)));
    Hash64 hash;
    for_each_piece(static_cast<int64_t>(section.size()), [&](int64_t at, int64_t size) {
      const auto piece = section.subspan(static_cast<size_t>(at), static_cast<size_t>(size));
      hash.add(piece);
      write_fully(descriptor, path, offset + start + at, piece);
    });
    checksums.push_back(hash.value());
  }
  return checksums;
}

}  // namespace autoglm
