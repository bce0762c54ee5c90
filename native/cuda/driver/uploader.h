// Brings bytes of the host into device memory through two page-locked buffers: one is filled while the other
// one is under way.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>

#include "cuda/driver/memory.h"
#include "cuda/driver/stream.h"

namespace autoglm::cuda {

class Uploader {
 public:
  static constexpr size_t kPieceBytes =
      16 << 20;  // a few hundred microseconds of PCIe, so that starting it is nothing

  // Copies go to `stream`, which has to outlive the uploader: what is launched there afterwards sees the
  // bytes.
  explicit Uploader(Stream& stream, size_t piece_bytes = kPieceBytes);
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  // Writes the bytes from `offset` on, as many as `piece` has, at the place where the device takes them from:
  // for sources that are read from a file or made by threads. What it throws ends the upload, which is how
  // one cancels; the uploader can be used again then.
  using Fill = std::function<void(std::span<std::byte> piece, size_t offset)>;
  void upload(void* target, size_t num_bytes, const Fill& fill);

  // `source` may be a mapped file; it has been read when the call returns. `before_piece` is called with the
  // number of bytes already taken, and may throw.
  using Progress = std::function<void(size_t num_done)>;
  void upload(void* target, std::span<const std::byte> source, const Progress& before_piece = {});

  // Until everything has arrived.
  void finish();

 private:
  struct Buffer {
    PinnedMemory memory;
    Event is_free;  // recorded behind the copy from it
  };

  Stream& stream_;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
};

}  // namespace autoglm::cuda
