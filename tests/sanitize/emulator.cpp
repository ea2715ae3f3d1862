// emulator.cpp - the emulated device's scheduler under ThreadSanitizer: its workers, which share the blocks of a launch.
//
// Built and run by .ci/sanitize with the emulator's own tests (kernels/emulator/selftest). The fibers of a worker run on one thread of
// the system, which is how the sanitizer sees them: it looks at what workers share, not at the threads of a block, which the checked
// device looks at.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "kernels/common/runtime.h"
#include "kernels/emulator/selftest/selftest.h"

using namespace warploom;
using namespace warploom::selftest;

namespace {

constexpr int kLaunches = 60, kMostBlocks = 40;

// Blocks of several warps that meet at barriers, in shuffles and in shared memory; every block adds to one cell and owns another.
__global__ void busy_kernel(int* own, int* together) {
  WL_SHARED(int, cells, [96]);
  const int i = static_cast<int>(threadIdx.x);
  cells[i] = i;
  __syncthreads();
  int v = cells[95 - i] + __shfl_xor_sync(0xffffffffu, i, 1);
  for (int round = 0; round < 3; ++round) {
    __syncthreads();
    cells[i] = v;
    __syncthreads();
    v = cells[(i + 1) % 96];
  }
  if (i == 0) atomicAdd(together, 1);
  own[blockIdx.x * 96 + static_cast<unsigned>(i)] += v;
}

int value(int i) {  // what busy_kernel adds to own[i]
  const int from = (i % 96 + 3) % 96;
  return 95 - from + (from ^ 1);
}

std::string wrong(void (*run)(Tester&)) {
  Tester t;
  std::string said;
  try {
    t.device = runtime_open(0);
    t.context.stream = t.device->stream();
    t.context.device = &t.device->info();
    run(t);
  } catch (const std::exception& e) {
    said = e.what();
  }
  if (t.device) {
    t.device->end_call();
    for (void* p : t.owned) t.device->release(p);
  }
  return said;
}

void launch_many(Tester& t) {
  int* together = t.upload(std::vector<int>(1, 0));
  int* own = t.upload(std::vector<int>(kMostBlocks * 96, 0));
  int blocks = 0;
  for (int l = 1; l <= kLaunches; ++l) {
    const int some = 1 + l * 7 % kMostBlocks;
    launch(t.context, "busy_kernel", busy_kernel, dim3(static_cast<unsigned>(some)), 96, 0, own, together);
    blocks += some;
  }
  t.equal(together, 1, [&](int) { return blocks; }, "blocks that ran");
  t.equal(own, 96, [&](int i) { return kLaunches * value(i); }, "the first block's");
}

}  // namespace

// The loop around atomicCAS begins with a plain read, as everybody's does; a wrong first guess costs one round.
extern "C" const char* __tsan_default_suppressions() { return "race:atomics_kernel"; }

int main() {
  bool right = true;
  const auto say = [&](const char* what, const std::string& said) {
    if (said.empty()) return;
    std::printf("%s: %s\n", what, said.c_str());
    right = false;
  };
  for (const Case& c : cases()) {
    const std::string group = c.group;
    if (group == "primitive" || group == "correct") say(c.name, wrong(c.run));
    if (group == "deadlock" && wrong(c.run).empty()) say(c.name, "was not stopped");
  }
  std::vector<std::thread> callers;
  std::vector<std::string> said(3);
  for (std::string& each : said) callers.emplace_back([&each] { each = wrong(launch_many); });
  for (auto& t : callers) t.join();
  for (const std::string& each : said) say("several callers", each);
  for (int i = 0; i < 2; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(wrong(launch_many).empty() ? 0 : 1);
    int status = 1;
    waitpid(child, &status, 0);
    say("after a fork", status == 0 ? "" : "not right");
  }
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
