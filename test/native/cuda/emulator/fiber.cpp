#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#include "sanitizers.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace autoglm::emulator {
namespace {

// Sanitized frames are several times larger.
constexpr size_t kStackBytes = kIsSanitized ? 512 << 10 : 64 << 10;

Fiber* entering = nullptr;  // the fiber that `enter` begins

}  // namespace

#if defined(__x86_64__)
// swapcontext saves the signal mask by a system call: 460 ns a switch where this takes 20.
extern "C" void autoglm_switch_stack(void** saved, void* target);
asm(R"(
.text
.type autoglm_switch_stack, @function
autoglm_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size autoglm_switch_stack, .-autoglm_switch_stack
)");

namespace {
constexpr int kSavedRegisters = 6;

void* make_context(std::byte* stack, void (*entry)()) {
  // `ret` pops the entry and leaves the stack as a call does: 8 bytes off a multiple of 16.
  auto* top = reinterpret_cast<void**>(stack + kStackBytes) - 1;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  return top;
}
void switch_context(void*& saved, void* target) { autoglm_switch_stack(&saved, target); }
void drop_context(void*) {}
}  // namespace
#else
namespace {
void* make_context(std::byte* stack, void (*entry)()) {
  auto* context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = kStackBytes;
  makecontext(context, entry, 0);
  return context;
}
void switch_context(void*& saved, void* target) {
  if (saved == nullptr) saved = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(saved), static_cast<ucontext_t*>(target));
}
void drop_context(void* context) { delete static_cast<ucontext_t*>(context); }
}  // namespace
#endif

Fiber::Fiber() {
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  stack_ = static_cast<std::byte*>(memory);
  own_context_ = make_context(stack_, &Fiber::enter);
#if defined(__SANITIZE_THREAD__)
  tsan_own_ = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(tsan_own_);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, kStackBytes);
#endif
  drop_context(own_context_);
  drop_context(scheduler_context_);
  munmap(stack_, kStackBytes);
}

void Fiber::start(std::function<void()> body) {
  body_ = std::move(body);
  release_at(this);
}

AUTOGLM_UNTRACKED void Fiber::resume() {
  entering = this;
#if defined(__SANITIZE_THREAD__)
  constexpr unsigned kNoSync = 1;
  tsan_scheduler_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_own_, kNoSync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
#endif
  switch_context(scheduler_context_, own_context_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

AUTOGLM_UNTRACKED void Fiber::suspend() {
#if defined(__SANITIZE_THREAD__)
  constexpr unsigned kNoSync = 1;
  __tsan_switch_to_fiber(tsan_scheduler_, kNoSync);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&asan_own_, asan_scheduler_bottom_, asan_scheduler_size_);
#endif
  switch_context(own_context_, scheduler_context_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(asan_own_, &asan_scheduler_bottom_, &asan_scheduler_size_);
#endif
}

AUTOGLM_UNTRACKED void Fiber::enter() {
  Fiber* self = entering;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &self->asan_scheduler_bottom_, &self->asan_scheduler_size_);
#endif
  for (;;) {  // one turn for each run
    acquire_at(self);
    self->body_();
    self->suspend();
  }
}

}  // namespace autoglm::emulator
