#include "lab.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/half.h"
#include "cuda/driver/graph.h"
#include "random_values.h"

namespace autoglm::bench {
namespace {

constexpr double kGraphSeconds = 2e-3;  // so long that what surrounds a graph is below 1 % of it
constexpr double kWarmSeconds = 0.05;   // clocks rise from idle within some 10 ms
constexpr int kMaxGraphLaunches = 256;
constexpr int kSamples = 15;
constexpr int64_t kRotatedBytes = int64_t{256} << 20;  // four times the L2 cache of an H200

uint16_t random_bf16(uint64_t bits, int lowest_exponent) {
  const auto exponent = static_cast<uint64_t>(lowest_exponent) + (bits >> 7 & 3);
  return static_cast<uint16_t>((bits & 0x8000) | exponent << 7 | (bits & 0x7f));
}

// Four values of 16 bits.
uint64_t random_word(test::Random& random, Content content) {
  const uint64_t bits = random.next();
  if (content == Content::bytes) return bits;
  uint64_t word = 0;
  for (int shift = 0; shift < 64; shift += 16) {
    const uint64_t part = bits >> shift & 0xffff;
    uint64_t value = 0x2000 | (part & 0x3ff);  // a half's exponent of 2^-7
    if (content == Content::bf16) value = random_bf16(part, 124);
    if (content == Content::small_bf16) value = random_bf16(part, 121);
    if (content == Content::small_f16) value = (part & 0x8fff) + (9 << 10);
    word |= value << shift;
  }
  return word;
}

std::vector<std::byte> random_block(int64_t num_bytes, Content content) {
  test::Random random(static_cast<uint64_t>(content) + 1);
  std::vector<std::byte> block(num_bytes / 8 * 8);
  for (size_t offset = 0; offset < block.size(); offset += 8) {
    if (content == Content::logits) {
      const float pair[2] = {2.5f * random.normal(), 2.5f * random.normal()};
      std::memcpy(block.data() + offset, pair, 8);
    } else {
      const uint64_t word = random_word(random, content);
      std::memcpy(block.data() + offset, &word, 8);
    }
  }
  return block;
}

// Not one of the engine's functions: it takes no times. Newer headers mean the second name by the first.
using ElapsedTime = cuda::CUresult (*)(float*, cuda::CUevent, cuda::CUevent);
ElapsedTime find_elapsed_time(const std::string& library) {
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  for (const char* name : {"cuEventElapsedTime", "cuEventElapsedTime_v2"}) {
    void* found = handle == nullptr ? nullptr : dlsym(handle, name);
    if (found != nullptr) return reinterpret_cast<ElapsedTime>(found);
  }
  throw Error(ErrorCode::internal, library + " has no cuEventElapsedTime");
}

}  // namespace

Timing timing_of(std::vector<double> seconds) {
  std::ranges::sort(seconds);
  return {seconds[seconds.size() / 2], seconds.front(), seconds.back()};
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

TimedEvent::TimedEvent(Lab& lab) : lab_(&lab) {
  cuda::CUevent handle = nullptr;
  lab.context().call(lab.context().driver().cuEventCreate, &handle, 0u);
  handle_ = {lab.shared_context(), handle};
}

void TimedEvent::record(cuda::CUstream stream) {
  lab_->context().call(lab_->context().driver().cuEventRecord, handle_.get(), stream);
  host_seconds_ = now();
}

double TimedEvent::seconds_since(const TimedEvent& earlier) const {
  if (lab_->is_toy()) return host_seconds_ - earlier.host_seconds_;
  static const ElapsedTime elapsed_time = find_elapsed_time(lab_->library());
  float milliseconds = 0;
  const cuda::DriverFunction<float*, cuda::CUevent, cuda::CUevent> function{"cuEventElapsedTime",
                                                                            elapsed_time};
  lab_->context().call(function, &milliseconds, earlier.handle_.get(), handle_.get());
  return milliseconds * 1e-3;
}

Lab::Lab(const LabSettings& settings)
    : settings_(settings),
      context_(cuda::open_device(settings.device_idx, cuda::embedded_modules(), settings.library)),
      stream_(context_) {}

int Lab::num_turns(int64_t bytes_of_a_turn) const {
  if (settings_.is_toy) return 2;
  return static_cast<int>(std::clamp<int64_t>(cuda::ceil_div(kRotatedBytes, bytes_of_a_turn), 1, 16));
}

cuda::DeviceMemory Lab::allocate(int64_t num_bytes) { return {context_, static_cast<size_t>(num_bytes)}; }

cuda::DeviceMemory Lab::zeros(int64_t num_bytes) {
  cuda::DeviceMemory memory = allocate(num_bytes);
  if (memory.size() > 0) stream_.fill(memory.data(), 0, memory.size());
  return memory;
}

// A random block of some MiB again and again, from another place each time.
cuda::DeviceMemory Lab::random(int64_t num_bytes, Content content) {
  const int64_t block_bytes = settings_.is_toy ? 1 << 16 : 8 << 20;
  cuda::DeviceMemory& block = blocks_[static_cast<size_t>(content)];
  if (block.size() == 0) block = upload(random_block(block_bytes, content));
  cuda::DeviceMemory memory = allocate(num_bytes);
  test::Random places(static_cast<uint64_t>(num_bytes));
  for (int64_t done = 0; done < num_bytes;) {
    const int64_t from = places.below(block_bytes / 2 / 16) * 16;
    const int64_t count = std::min(block_bytes - from, num_bytes - done);
    stream_.copy_on_device(memory.data() + done, block.data() + from, count);
    done += count;
  }
  stream_.synchronize();
  return memory;
}

// Seconds of each of `count` passes, which follow each other without a gap.
std::vector<double> Lab::time_passes(int count, const std::function<void()>& pass) {
  std::vector<TimedEvent> events;
  for (int i = 0; i <= count; ++i) events.emplace_back(*this);
  events[0].record(stream_.get());
  for (int i = 1; i <= count; ++i) {
    pass();
    if (settings_.is_toy) stream_.synchronize();
    events[i].record(stream_.get());
  }
  stream_.synchronize();
  std::vector<double> seconds;
  for (int i = 1; i <= count; ++i) seconds.push_back(events[i].seconds_since(events[i - 1]));
  return seconds;
}

Timing Lab::measure(int num_turns, const std::function<void(int turn)>& enqueue) {
  const auto all_turns = [&] {
    for (int turn = 0; turn < num_turns; ++turn) enqueue(turn);
  };
  all_turns();  // loads the kernels
  const double pass_seconds = settings_.is_toy ? 1 : time_passes(3, all_turns).back();
  const int most = std::max(1, kMaxGraphLaunches / num_turns);
  const int repeats = std::clamp(static_cast<int>(std::ceil(kGraphSeconds / pass_seconds)), 1, most);
  const cuda::Graph graph = cuda::capture(stream_, [&] {
    for (int i = 0; i < repeats; ++i) all_turns();
  });
  cuda::GraphExec replay(graph);
  const auto launch = [&] { replay.launch(stream_); };
  const int num_warm = settings_.is_toy ? 1 : static_cast<int>(kWarmSeconds / (pass_seconds * repeats)) + 1;
  time_passes(std::min(num_warm, 100), launch);
  std::vector<double> seconds = time_passes(settings_.is_toy ? 2 : kSamples, launch);
  for (double& each : seconds) each /= repeats * num_turns;
  return timing_of(std::move(seconds));
}

double Lab::copy_rate() {
  const int64_t num_bytes = settings_.is_toy ? 1 << 16 : int64_t{1} << 30;
  const cuda::DeviceMemory from = random(num_bytes, Content::bytes);
  const cuda::DeviceMemory to = allocate(num_bytes);
  const auto copy = [&] { stream_.copy_on_device(to.data(), from.data(), num_bytes); };
  time_passes(settings_.is_toy ? 1 : 50, copy);
  const Timing timing = timing_of(time_passes(kSamples, copy));
  return 2 * static_cast<double>(num_bytes) / timing.median;
}

std::string Lab::load_report(double seconds_of_one, const std::function<void(int turn)>& enqueue) {
  if (settings_.is_toy) return "";
  const int count = std::min(10'000, static_cast<int>(0.5 / seconds_of_one) + 1);
  for (int i = 0; i < count; ++i) enqueue(0);
  const std::string command =
      "nvidia-smi --query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu --format=csv,noheader --id=" +
      device().uuid + " 2>&1";
  std::string text;
  if (FILE* pipe = popen(command.c_str(), "r")) {
    char line[512];
    while (std::fgets(line, sizeof(line), pipe) != nullptr) text += line;
    pclose(pipe);
  }
  stream_.synchronize();
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace autoglm::bench
