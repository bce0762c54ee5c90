// What tests tell and ask libautoglm_fake_cuda.so, a CUDA driver whose device is the SIMT emulator.
//
// Memory of each device lies in a range of addresses that the host cannot touch: following a device pointer
// outside a kernel of that device is a SIGSEGV, and an argument or a copy that names another device's memory
// is an illegal address. New memory holds NaN (up to 64 MiB, larger pieces begin as zeros), and so do the
// bytes around each allocation; a kernel that writes there is an illegal address, and so is an argument that
// points to host memory which is not page-locked. Work is done when somebody waits for it, at once only on
// request: a host that reads too early meets NaN, since a copy into page-locked memory poisons its target
// when it is queued.
#pragma once

#include <cstdint>

extern "C" {

// Settings, with their defaults:
//   driver_version 13000, num_devices 1, compute_capability 90, last_compute_capability 0 (of the last
//   device, where it differs), total_memory 8 GiB, max_shared_bytes 232448; init_result 0: what cuInit
//   returns; launch_failure_at 0: the so manieth kernel from now on fails while it runs, with
//   launch_failure_code 719; runs_at_once 0: no queues; order 0: the emulator's schedule (0 warps ascending,
//   1 descending, 2 random with `seed`); peers 1: whether copies go from device to device;
//   last_stream_first 0: who waits for one stream lets the others go first, the latest of them before the
//   earlier ones; runs_past 0: who waits for an event lets its stream go on to the end; frees_at_once 0:
//   device memory that is freed is poisoned at once, whatever streams hold; failing_device -1: where launches
//   and calls fail that were told to, -1 for anywhere. "total_memory@1" is device 1's alone.
// The variable AUTOGLM_FAKE_CUDA sets them, too: "total_memory=1000000,driver_version=12080". In it,
// "cuMemAlloc_v2:3=2" is what autoglm_fake_cuda_fail says.
// Returns whether there is such a setting.
bool autoglm_fake_cuda_set(const char* name, int64_t value);

// The `nth` call of this function from now on returns `code` and does nothing; a fatal code also spoils the
// context.
void autoglm_fake_cuda_fail(const char* function, int64_t nth, int code);

// What is alive: contexts, modules, allocations, allocated_bytes, pinned_allocations, pinned_bytes, streams,
// events, graphs, graph_execs, objects (the sum of all but bytes); "objects@1" of device 1 alone. What has
// been done: launches; peer_copies; refused, calls on a context that a fault had spoiled before. -1 for other
// names.
int64_t autoglm_fake_cuda_count(const char* name);

// All settings as they were, no failures ahead, nothing done yet. What is alive stays.
void autoglm_fake_cuda_reset();

}  // extern "C"
