#include "cuda/driver/uploader.h"

#include <algorithm>
#include <cstring>

namespace autoglm::cuda {

Uploader::Uploader(Stream& stream, size_t piece_bytes) : stream_(stream) {
  for (Buffer& each : buffers_) {
    each.memory = PinnedMemory(stream.shared_context(), piece_bytes);
    each.is_free = Event(stream.shared_context());
  }
}

Uploader::~Uploader() {
  // The buffers must outlive the copies from them.
  Context& context = stream_.context();
  for (const Buffer& each : buffers_) {
    context.release(context.driver().cuEventSynchronize, each.is_free.get());
  }
}

void Uploader::upload(void* target, size_t num_bytes, const Fill& fill) {
  auto* out = static_cast<std::byte*>(target);
  for (size_t offset = 0; offset < num_bytes;) {
    Buffer& buffer = buffers_[next_];
    next_ = (next_ + 1) % buffers_.size();
    const size_t count = std::min(buffer.memory.size(), num_bytes - offset);
    buffer.is_free.synchronize();
    fill({buffer.memory.data(), count}, offset);
    stream_.copy_to_device(out + offset, buffer.memory.data(), count);
    stream_.record(buffer.is_free);
    offset += count;
  }
}

void Uploader::upload(void* target, std::span<const std::byte> source, const Progress& before_piece) {
  upload(target, source.size(), [&](std::span<std::byte> piece, size_t offset) {
    if (before_piece) before_piece(offset);
    std::memcpy(piece.data(), source.data() + offset, piece.size());
  });
}

void Uploader::finish() { stream_.synchronize(); }

}  // namespace autoglm::cuda
