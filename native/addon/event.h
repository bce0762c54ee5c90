// What native threads tell the JavaScript thread. An event is a plain number in the thread-safe function's
// data pointer: sending one allocates nothing of ours, and one that is never delivered leaks nothing.
#pragma once

#include <node_api.h>

#include <cstdint>

#include "runtime/step_records.h"

namespace autoglm::addon {

struct Event {
  enum class Kind : uint8_t {
    step_finished,
    model_closed,
    load_progressed,
    load_done,
    adapter_read,
    adapter_removed,
    weights_saved,
    engine_stopped
  };

  Kind kind = Kind::step_finished;
  int64_t id = 0;  // of the model, the adapter or the save; 0 for engine_stopped
  // step_finished only: the plan's slot, and whether another finished step of the model follows at once.
  int slot = 0;
  bool has_more = false;
};

static_assert(sizeof(void*) == 8, "an event needs 64 bits");
static_assert(abi::Limits::queueDepth <= 4, "a slot has two bits");

inline void* encode(const Event& event) {
  const auto bits = static_cast<uint64_t>(event.id) << 6 | static_cast<uint64_t>(event.has_more) << 5 |
                    static_cast<uint64_t>(event.kind) << 2 | static_cast<uint64_t>(event.slot);
  return reinterpret_cast<void*>(bits);
}

inline Event decode(void* data) {
  const auto bits = reinterpret_cast<uint64_t>(data);
  return {.kind = static_cast<Event::Kind>(bits >> 2 & 7),
          .id = static_cast<int64_t>(bits >> 6),
          .slot = static_cast<int>(bits & 3),
          .has_more = (bits >> 5 & 1) != 0};
}

}  // namespace autoglm::addon
