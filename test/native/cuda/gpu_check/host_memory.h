// Which memory of this process an address belongs to: operator new of this program keeps a list of what it
// gave.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace autoglm::gpu_check {

// The living allocation that contains `address`; the size is what was asked for.
std::optional<std::span<std::byte>> find_allocation(const void* address);

// Whether `address` is in a frame of one of the callers of the current function.
bool is_on_stack(const void* address);

}  // namespace autoglm::gpu_check
