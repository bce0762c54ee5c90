// Why a step failed, in words, for the thread that tells its callers.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <mutex>
#include <string>
#include <string_view>

namespace autoglm {

// Keeps the first KiB of a text, in memory of its own: where steps fail, there may be no other. Any thread.
class StepFailure {
 public:
  void set(std::string_view text) {
    const std::lock_guard lock(mutex_);
    length_ = std::min(text.size(), bytes_.size());
    // Not within a character of UTF-8, whose later bytes begin with the bits 10.
    while (length_ < text.size() && length_ > 0 && (text[length_] & 0xc0) == 0x80) --length_;
    std::copy_n(text.begin(), length_, bytes_.begin());
  }

  // Empty before the first.
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return {bytes_.data(), length_};
  }

 private:
  mutable std::mutex mutex_;
  std::array<char, 1024> bytes_{};
  size_t length_ = 0;
};

}  // namespace autoglm
