#include "thread_block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <ranges>

#include "sanitizers.h"

namespace autoglm::emulator {
namespace {

constexpr int kPoison = 0xff;  // a NaN in every float format
constexpr size_t kSharedAlignment = 128;

struct PendingCopy {
  void* target;
  const void* source;
  size_t num_bytes;
  size_t num_valid;
};

enum class State : uint8_t { ready, waiting, done };

struct Thread {
  Fiber fiber;
  State state = State::done;
  ThreadPosition position;
  std::vector<std::vector<PendingCopy>> groups;  // the last one is still open
};

// Thrown inside the threads of a faulty block, so that their stacks unwind.
struct Abandoned {};

// Fibers are kept: ThreadSanitizer takes a hundred microseconds to make one.
std::deque<Thread>& threads_of_process(size_t count) {
  static std::deque<Thread> threads;
  while (threads.size() < count) threads.emplace_back();
  return threads;
}

// What orders the threads of one meeting for ThreadSanitizer. The next meeting has another address: who is
// slow to leave a meeting must not come after what others did on their way to the next one.
class Meeting {
 public:
  void* address() { return &addresses_[turn_]; }
  void finish() { turn_ = 1 - turn_; }

 private:
  char addresses_[2] = {};
  int turn_ = 0;
};

struct Barrier {
  unsigned expected = 0;
  std::vector<unsigned> waiting;
  Meeting meeting;
};

struct Warp {
  const char* instruction = nullptr;
  void* arguments[kWarpSize] = {};
  std::vector<unsigned> waiting;
  Meeting meeting;
};

struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  size_t below(size_t limit) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state_ >> 33) % limit;
  }

 private:
  uint64_t state_;
};

class ThreadBlock {
 public:
  ThreadBlock(const Launch& launch, const Schedule& schedule)
      : launch_(launch),
        order_(schedule.order),
        random_(schedule.seed),
        threads_(threads_of_process(launch.num_threads)) {}

  void run(Grid block, const std::function<void()>& kernel);

  Thread& current() { return threads_[current_]; }
  std::byte* shared(size_t expected_bytes);
  void wait_at(int id, unsigned num_threads);
  void run_in_warp(const char* name, void* arguments, Combine combine);
  [[noreturn]] void fail(std::string what);
  Random& random() { return random_; }

 private:
  void prepare(Grid block, const std::function<void()>& kernel);
  std::optional<unsigned> next_thread();
  void wake(std::vector<unsigned>& waiting);
  void run_thread(const std::function<void()>& kernel, Thread& thread);
  void suspend();
  void abandon();
  void throw_if_abandoned() const;
  std::string describe_deadlock() const;

  Launch launch_;
  Order order_;
  Random random_;
  std::deque<Thread>& threads_;  // the first num_threads of them
  std::vector<Warp> warps_;
  std::map<int, Barrier> barriers_;
  std::vector<unsigned> ready_;  // in a random order's bag
  std::unique_ptr<std::byte, FreeMemory> shared_;
  unsigned current_ = 0;
  unsigned current_warp_ = 0;
  std::string fault_;
  bool is_abandoned_ = false;
};

ThreadBlock* running = nullptr;

AUTOGLM_UNTRACKED ThreadBlock& running_block() { return *running; }

void ThreadBlock::prepare(Grid block, const std::function<void()>& kernel) {
  const unsigned num_threads = launch_.num_threads;
  warps_.assign((num_threads + kWarpSize - 1) / kWarpSize, Warp{});
  barriers_.clear();
  ready_.clear();
  fault_.clear();
  current_warp_ = order_ == Order::warps_descending ? static_cast<unsigned>(warps_.size()) - 1 : 0;
  shared_.reset();
  if (launch_.shared_bytes > 0) {
    // Of exactly the size asked for, so that AddressSanitizer sees the first byte beyond.
    void* memory = nullptr;
    if (posix_memalign(&memory, kSharedAlignment, launch_.shared_bytes) != 0) throw std::bad_alloc();
    shared_.reset(static_cast<std::byte*>(memory));
    std::memset(memory, kPoison, launch_.shared_bytes);
  }
  for (unsigned i = 0; i < num_threads; ++i) {
    Thread& thread = threads_[i];
    thread.state = State::ready;
    thread.position = {i, block, launch_.grid, num_threads};
    thread.groups.assign(1, {});
    ready_.push_back(i);
    thread.fiber.start([&kernel, &thread, this] { run_thread(kernel, thread); });
  }
}

void ThreadBlock::run_thread(const std::function<void()>& kernel, Thread& thread) {
  try {
    throw_if_abandoned();
    kernel();
    Untracked scope;
    const bool is_unfinished = std::ranges::any_of(thread.groups, [](auto& group) { return !group.empty(); });
    if (is_unfinished) fail("a thread ended with asynchronous copies that it never waited for");
  } catch (const Abandoned&) {
  }
  Untracked scope;
  thread.state = State::done;
  release_at(this);
}

void ThreadBlock::run(Grid block, const std::function<void()>& kernel) {
  prepare(block, kernel);
  running = this;
  while (const std::optional<unsigned> next = next_thread()) {
    current_ = *next;
    threads_[current_].fiber.resume();
    if (!fault_.empty()) break;
  }
  acquire_at(this);  // what the block did happened before what follows: the next block, or the test
  const auto own = std::views::counted(threads_.begin(), launch_.num_threads);
  const bool is_done = std::ranges::all_of(own, [](Thread& each) { return each.state == State::done; });
  if (fault_.empty() && !is_done) fault_ = describe_deadlock();
  abandon();
  running = nullptr;
  if (!fault_.empty()) {
    throw KernelFault("block (" + std::to_string(block.x) + ", " + std::to_string(block.y) + ", " +
                      std::to_string(block.z) + "): " + fault_);
  }
}

// Ends every thread that has not ended by itself.
void ThreadBlock::abandon() {
  is_abandoned_ = true;
  for (unsigned i = 0; i < launch_.num_threads; ++i) {
    current_ = i;
    if (threads_[i].state != State::done) threads_[i].fiber.resume();
  }
  acquire_at(this);
  is_abandoned_ = false;
}

std::optional<unsigned> ThreadBlock::next_thread() {
  if (order_ == Order::random) {
    if (ready_.empty()) return std::nullopt;
    std::swap(ready_[random_.below(ready_.size())], ready_.back());
    const unsigned thread = ready_.back();
    ready_.pop_back();
    return thread;
  }
  // The warp that ran last goes on as long as it can; then the first in order that is able to.
  const auto num_warps = static_cast<unsigned>(warps_.size());
  const bool ascends = order_ == Order::warps_ascending;
  for (unsigned tried = 0; tried <= num_warps; ++tried) {
    const unsigned in_order = ascends ? tried - 1 : num_warps - tried;
    const unsigned warp = tried == 0 ? current_warp_ : in_order;
    const unsigned first = warp * kWarpSize;
    const unsigned count = std::min<unsigned>(kWarpSize, launch_.num_threads - first);
    for (unsigned i = 0; i < count; ++i) {
      const unsigned thread = first + (ascends ? i : count - 1 - i);
      if (threads_[thread].state != State::ready) continue;
      current_warp_ = warp;
      return thread;
    }
  }
  return std::nullopt;
}

void ThreadBlock::suspend() {
  release_at(this);
  current().fiber.suspend();
  throw_if_abandoned();
}

void ThreadBlock::throw_if_abandoned() const {
  Untracked scope;
  if (is_abandoned_) throw Abandoned{};
}

void ThreadBlock::wake(std::vector<unsigned>& waiting) {
  for (const unsigned each : waiting) {
    threads_[each].state = State::ready;
    ready_.push_back(each);
  }
  waiting.clear();
}

void ThreadBlock::fail(std::string what) {
  Untracked scope;
  fault_ = "thread " + std::to_string(current_) + ": ";
  fault_ += what;
  throw Abandoned{};
}

std::byte* ThreadBlock::shared(size_t expected_bytes) {
  Untracked scope;
  if (expected_bytes != launch_.shared_bytes) {
    fail("shared storage of " + std::to_string(expected_bytes) + " bytes, launched with " +
         std::to_string(launch_.shared_bytes));
  }
  return shared_.get();
}

void ThreadBlock::wait_at(int id, unsigned num_threads) {
  Untracked scope;
  Barrier& barrier = barriers_[id];
  if (barrier.waiting.empty()) barrier.expected = num_threads;
  if (barrier.expected != num_threads || num_threads % kWarpSize != 0) {
    fail("barrier " + std::to_string(id) + " of " + std::to_string(barrier.expected) + " threads met with " +
         std::to_string(num_threads));
  }
  void* meeting = barrier.meeting.address();
  release_at(meeting);
  if (barrier.waiting.size() + 1 == num_threads) {
    barrier.meeting.finish();
    wake(barrier.waiting);
  } else {
    barrier.waiting.push_back(current_);
    current().state = State::waiting;
    suspend();
  }
  acquire_at(meeting);
}

void ThreadBlock::run_in_warp(const char* name, void* arguments, Combine combine) {
  std::optional<Untracked> scope(std::in_place);
  Warp& warp = warps_[current_ / kWarpSize];
  if (warp.waiting.empty()) warp.instruction = name;
  if (std::strcmp(warp.instruction, name) != 0) {
    fail(std::string("lanes of one warp are at ") + warp.instruction + " and at " + name);
  }
  warp.arguments[current_ % kWarpSize] = arguments;
  void* meeting = warp.meeting.address();
  release_at(meeting);
  if (warp.waiting.size() + 1 == kWarpSize) {
    acquire_at(meeting);
    void* arguments_of_lanes[kWarpSize];
    std::ranges::copy(warp.arguments, arguments_of_lanes);
    scope.reset();  // what it reads of shared memory counts
    combine(arguments_of_lanes);
    scope.emplace();
    release_at(meeting);
    warp.meeting.finish();
    wake(warp.waiting);
  } else {
    warp.waiting.push_back(current_);
    current().state = State::waiting;
    suspend();
    acquire_at(meeting);
  }
}

std::string ThreadBlock::describe_deadlock() const {
  std::string text = "no thread can go on";
  for (const auto& [id, barrier] : barriers_) {
    if (barrier.waiting.empty()) continue;
    text += "; " + std::to_string(barrier.waiting.size()) + " of " + std::to_string(barrier.expected) +
            " threads are at barrier " + std::to_string(id);
  }
  for (const Warp& warp : warps_) {
    if (warp.waiting.empty()) continue;
    text += "; " + std::to_string(warp.waiting.size()) + " lanes of one warp are at " + warp.instruction;
  }
  return text;
}

void land(const std::vector<PendingCopy>& copies) {
  for (const PendingCopy& each : copies) {
    std::memcpy(each.target, each.source, each.num_valid);
    std::memset(static_cast<std::byte*>(each.target) + each.num_valid, 0, each.num_bytes - each.num_valid);
  }
}

}  // namespace

void run_kernel(const Launch& launch, const Schedule& schedule, const std::function<void()>& kernel) {
  if (launch.grid.x == 0 || launch.grid.y == 0 || launch.grid.z == 0 || launch.num_threads == 0 ||
      launch.num_threads > 1024) {
    throw KernelFault("a grid of no blocks, or a block of more than 1,024 threads or of none");
  }
  std::vector<Grid> blocks;
  for (unsigned z = 0; z < launch.grid.z; ++z) {
    for (unsigned y = 0; y < launch.grid.y; ++y) {
      for (unsigned x = 0; x < launch.grid.x; ++x) blocks.push_back({x, y, z});
    }
  }
  ThreadBlock block(launch, schedule);
  if (schedule.order == Order::warps_descending) std::ranges::reverse(blocks);
  if (schedule.order == Order::random) {
    for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[block.random().below(i)]);
  }
  for (const Grid& each : blocks) block.run(each, kernel);
}

ThreadPosition position() {
  Untracked scope;
  return running_block().current().position;
}
std::byte* shared_memory(size_t expected_bytes) { return running_block().shared(expected_bytes); }
void fail(std::string what) { running_block().fail(std::move(what)); }
void wait_at_barrier(int id, unsigned num_threads) { running_block().wait_at(id, num_threads); }
void run_in_warp(const char* name, void* lane_arguments, Combine combine) {
  running_block().run_in_warp(name, lane_arguments, combine);
}

void begin_copy(void* target, const void* source, size_t num_bytes, size_t num_valid) {
  std::memset(target, kPoison, num_bytes);
  Untracked scope;
  const auto is_aligned = [=](const void* address) {
    return reinterpret_cast<uintptr_t>(address) % num_bytes == 0;
  };
  if (!is_aligned(target) || !is_aligned(source)) fail("an asynchronous copy off its alignment");
  running_block().current().groups.back().push_back({target, source, num_bytes, num_valid});
}

void close_copy_group() {
  Untracked scope;
  running_block().current().groups.emplace_back();
}

void finish_copies(size_t num_groups_left) {
  std::vector<PendingCopy> landing;
  {
    Untracked scope;
    auto& groups = running_block().current().groups;
    while (groups.size() - 1 > num_groups_left) {
      landing.insert(landing.end(), groups.front().begin(), groups.front().end());
      groups.erase(groups.begin());
    }
  }
  land(landing);
}

}  // namespace autoglm::emulator
