// Queues of streams: work enters in order and is done when somebody waits.
#pragma once

#include <cstdint>

#include "state.h"

namespace autoglm::cuda::fake {

// Adds to the queue, or to the recording.
CUresult queue(CUstream stream, Operation operation);
// Does what the stream holds up to this position.
void run_until(CUstream stream, uint64_t position);
// The same on behalf of a stream that waits. A fault spoils the context of the stream that has it, and the
// one that waited goes on: what it was waiting for has come to its end.
void run_for_other(CUstream stream, uint64_t position);
void run_all(CUctx_st& context);
// For the host that waits until the stream is there. With `last_stream_first` all other work is done before,
// that of the streams made last first, as far as their events let them: nothing else may hold them back.
void run_for_host(CUstream stream, uint64_t position);
// True when there is nothing left before this position; else does one operation, so that polling ends.
bool advance(CUstream stream, uint64_t position);
// Null when it is gone, and with it all its work done.
CUstream find_stream(uint64_t id);

}  // namespace autoglm::cuda::fake
