// launches.cpp - one `<<<>>>`: its limits, its blocks, what comes of it; and what the whole program has done.
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "state.h"

namespace warploom {
namespace lab {

Totals totals;
std::vector<std::string> kernel_names;

namespace {

struct Kernels {
  std::map<const void*, Registered> registered;
  std::map<std::string, int> dynamic_limit;  // by name
  std::map<const void*, int> dynamic_limit_of;
};
Kernels& kernels() {
  static Kernels* k = new Kernels;
  return *k;
}

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
double number_from(const char* variable, double otherwise) {
  const char* text = getenv(variable);
  return text && *text ? atof(text) : otherwise;
}

// The sample of a large launch: so many blocks, spread over the grid; and none after the time is over.
struct Sample {
  uint64_t wanted = 0, blocks = 0, stride = 1;
  double deadline = 0;
  std::atomic<uint64_t> run{0};
  std::atomic<bool> open{false};  // a launch is running
} sample;

std::string shown(const dim3& d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

bool ending_early = false;

void summary() {
  static bool written = false;
  if (written) return;
  written = true;
  if (!ending_early) report_leaks();
  report_counts();
  std::string names;
  for (const std::string& name : kernel_names) names += (names.empty() ? "" : "\n") + name;
  Line("summary")
      .put("launches", totals.launches)
      .put("kernels", names)
      .put("blocks", totals.blocks)
      .put("blocks_run", blocks_run())
      .put("threads", totals.threads)
      .put("accesses", all_accesses())
      .write();
}

constexpr int kTimedOut = 96;

struct AtExit {
  AtExit() {
    atexit(summary);
    const double seconds = number_from("WARPLOOM_LAB_TIMEOUT", 0);
    if (seconds <= 0) return;
    std::thread([seconds] {  // what was found until then is a verdict too
      std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
      ending_early = true;
      Line("timeout").write();
      summary();
      _exit(kTimedOut);
    })
        .detach();
  }
} at_exit;

std::map<std::string, double>& spent() {  // seconds, by kernel
  static std::map<std::string, double>* s = new std::map<std::string, double>;
  return *s;
}

}  // namespace

void stop() {
  fflush(stdout);
  fflush(stderr);
  ending_early = true;
  Line("stopped").write();
  summary();
  _exit(97);
}

unsigned long long blocks_run() { return totals.blocks_run + (sample.open ? sample.run.load() : 0); }

unsigned long long all_accesses() {
  unsigned long long sum = 0;
#if defined(WARPLOOM_EMULATOR_CHECKED)
  for (const emulator::Worker* w : emulator::every_worker())
    if (w->checks) sum += w->checks->accesses + (w->checks->budget_filled - w->checks->budget);
#endif
  return sum;
}

void register_kernel(const Registered& kernel) {
  auto& known = kernels().registered[kernel.function];
  const char* name = known.function && kernel.name == std::string("a kernel") ? known.name : kernel.name;
  known = kernel;
  known.name = name;
}

cudaError_t set_attribute(const void* function, cudaFuncAttribute attribute, int value, Site site) {
  const Call call("cudaFuncSetAttribute", site);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return call.succeeds();
  if (value < 0 || static_cast<size_t>(value) > emulator::kSharedPerBlock)
    return call.misused("launch-limits", cudaErrorInvalidValue,
                        "cudaFuncSetAttribute asks for " + std::to_string(value) +
                            " bytes of dynamic shared memory; a block has at most " + std::to_string(emulator::kSharedPerBlock));
  kernels().dynamic_limit_of[function] = value;
  return call.succeeds();
}

cudaError_t occupancy(int* blocks, int threads, size_t shared_bytes) {
  if (threads < 1 || threads > 1024) return *blocks = 0, cudaErrorInvalidValue;
  const int by_threads = 2048 / ((threads + 31) / 32 * 32);
  const int by_shared = shared_bytes ? static_cast<int>(228 * 1024 / (shared_bytes + 1024)) : 32;
  *blocks = std::min({by_threads, by_shared, 32});
  return cudaSuccess;
}

constexpr uint64_t kMostCooperative = 512;

cudaError_t launch(const Configuration& c, const LaunchOf& what) {
  if (emulator::current_identity) {
    emulator::current_fiber()->site = c.site;
    emulator::fail("a kernel launched a kernel: the emulated device has no dynamic parallelism");
  }
  const Call call("a kernel launch", c.site);
  if (given_up()) return cudaErrorLaunchFailure;
  const std::string name = what.name;
  const uint64_t threads = uint64_t(c.block.x) * c.block.y * c.block.z;
  auto beyond = [&](cudaError_t error, const std::string& words) {
    return call.misused("launch-limits", error, name + ": " + words);
  };
  if (threads == 0 || threads > 1024 || c.block.x > 1024 || c.block.y > 1024 || c.block.z > 64)
    return beyond(cudaErrorInvalidConfiguration, "a block of " + shown(c.block) + " is " + std::to_string(threads) +
                                                     " threads; a block has 1 to 1024, at most 1024 in x and y and 64 in z");
  if (!c.grid.x || !c.grid.y || !c.grid.z || c.grid.x > 0x7fffffffu || c.grid.y > 65535 || c.grid.z > 65535)
    return beyond(cudaErrorInvalidConfiguration, "the grid " + shown(c.grid) +
                                                     " is not possible; every dimension is at least 1, x is "
                                                     "at most 2147483647, y and z are at most 65535");
  if (c.most_threads && threads > c.most_threads)
    return beyond(cudaErrorLaunchFailure, std::to_string(threads) +
                                              " threads in a block, but __launch_bounds__ promises at most " +
                                              std::to_string(c.most_threads));
  if (c.shared_bytes > emulator::kSharedPerBlock)
    return beyond(cudaErrorInvalidValue, std::to_string(c.shared_bytes) +
                                             " bytes of dynamic shared memory; a block has at most " +
                                             std::to_string(emulator::kSharedPerBlock));
  size_t allowed = emulator::kStaticShared;  // which function a lambda calls is not known: the largest that was asked for
  for (const auto& limit : kernels().dynamic_limit_of) allowed = std::max(allowed, static_cast<size_t>(limit.second));
  if (c.shared_bytes > allowed)
    return beyond(cudaErrorInvalidValue,
                  std::to_string(c.shared_bytes) +
                      " bytes of dynamic shared memory; more than 49152 must be asked "
                      "for with cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes)");
  open_statics();
  emulator::LaunchRequest request;
  request.name = what.name;
  request.kernel = what.kernel;
  request.invoke = what.invoke;
  request.parameters = what.parameters;
  request.parameter_bytes = what.bytes;
  request.grid = c.grid;
  request.block = c.block;
  request.shared_bytes = c.shared_bytes;
  request.device = nullptr;
  sample.blocks = uint64_t(c.grid.x) * c.grid.y * c.grid.z;
  sample.wanted = static_cast<uint64_t>(number_from("WARPLOOM_LAB_BLOCKS", 0));
  sample.run = 0;
  if (sample.blocks > 2) {
    sample.stride = static_cast<uint64_t>(0.618 * static_cast<double>(sample.blocks - 2)) + 1;
    while (std::gcd(sample.stride, sample.blocks - 2) != 1) ++sample.stride;
  }
  // All launches of a kernel together have so much time; each runs a few blocks in any case.
  const double seconds = number_from("WARPLOOM_LAB_SECONDS", 20), begun = now();
  sample.deadline = seconds > 0 ? begun + std::max(0.0, seconds - spent()[name]) : 0;
  request.all_at_once = c.cooperative;
  if (c.cooperative && sample.blocks > kMostCooperative)
    return beyond(cudaErrorCooperativeLaunchTooLarge, "a cooperative launch of " + std::to_string(sample.blocks) +
                                                          " blocks; the lab runs at most " + std::to_string(kMostCooperative) +
                                                          " at the same time");
  open_grid(sample.blocks, c.cooperative);
  if (c.cooperative) sample.wanted = 0, sample.deadline = 0;
  ++totals.launches;
  totals.blocks += sample.blocks;
  if (std::find(kernel_names.begin(), kernel_names.end(), name) == kernel_names.end()) kernel_names.push_back(name);
  fflush(stdout);
  const uint64_t before = emulator::last_launch();
  bool stopped = false;
  sample.open = true;
  try {
    run(request);
#if defined(WARPLOOM_EMULATOR_CHECKED)
  } catch (const KernelFault&) {  // written down by the block
    stopped = true;
#endif
  } catch (const std::exception& e) {
    report("error", "fault", c.site, name + ": " + e.what());
    stopped = true;
  } catch (...) {
    report("error", "fault", c.site, name + ": a kernel threw an exception");
    stopped = true;
  }
  for (uint64_t serial = before + 1; serial <= emulator::last_launch(); ++serial) note_launch(serial, c.stream);
  spent()[name] += now() - begun;
  sample.open = false;
  totals.blocks_run += sample.run;
  totals.threads += sample.run * threads;
  if (stopped) stop();
  if (sample.run < sample.blocks) {
    Line("partial")
        .put("kernel", name)
        .put("blocks", sample.blocks)
        .put("blocks_run", sample.run.load())
        .put("at", c.site)
        .write();
    everything_written();
  }
  return cudaSuccess;
}

cudaError_t launch_registered(const void* function, Configuration c, void** arguments) {
  const auto it = kernels().registered.find(function);
  const Call call("cudaLaunchKernel", c.site);
  if (it == kernels().registered.end())
    return call.misused(
        "launch-limits", cudaErrorInvalidDeviceFunction,
        "cudaLaunchKernel: this is not a kernel that the lab knows; a template's instance must be passed as a function, "
        "without a cast to void*");
  const Registered& k = it->second;
  struct alignas(64) Chunk {
    char bytes[64];
  };
  std::vector<Chunk> parameters(k.bytes / 64 + 2);
  k.pack(&parameters[0], arguments);
  return launch(c, {k.name, reinterpret_cast<void (*)()>(const_cast<void*>(function)), k.invoke, &parameters[0], k.bytes});
}

}  // namespace lab

namespace emulator {
namespace hooks {

namespace {
constexpr uint64_t kInOrder = 256;
}

// A large grid may not be run whole: its first and its last block, and then the others spread over it, since mistakes live at edges.
uint64_t nth_block(uint64_t n, uint64_t blocks) {
  if (blocks <= kInOrder || n == 0) return n;
  if (n == 1) return blocks - 1;
  return 1 + static_cast<uint64_t>(static_cast<unsigned __int128>(n - 2) * lab::sample.stride % (blocks - 2));
}

#if defined(WARPLOOM_EMULATOR_CHECKED)
bool block_wanted(Worker&, uint64_t block) { return block_affordable(block); }
#endif

bool block_affordable(uint64_t block) {
  lab::Sample& s = lab::sample;
  if (s.wanted && s.wanted < s.blocks) {
    // Block i of the sample is floor(i * blocks / wanted).
    const uint64_t i = (block * s.wanted + s.blocks - 1) / s.blocks;
    if (i >= s.wanted || i * s.blocks / s.wanted != block) return false;
  }
  if (s.deadline && (s.run & 15u) == 15u && lab::now() > s.deadline) return false;
  ++s.run;
  return true;
}

}  // namespace hooks
}  // namespace emulator
}  // namespace warploom
