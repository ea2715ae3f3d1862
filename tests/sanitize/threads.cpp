// threads.cpp - the host kernel set's worker pool under ThreadSanitizer: several callers at once, tasks of all sizes, stealing, fork().
//
// Built and run by .ci/sanitize. Every task adds to a cell that only it owns and reads one that it wrote in an earlier call: a pool
// that hands a task to two workers, loses one or returns before all are done shows as a race or as a wrong sum.
#include "csrc/cpu/threads.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <thread>
#include <vector>

using warploom::cpu::parallel;

namespace {

bool call_many(int calls, int64_t most) {
  std::vector<int64_t> cells(static_cast<size_t>(most), 0);
  int64_t expected = 0;
  for (int c = 0; c < calls; c++) {
    const int64_t tasks = 1 + (int64_t(c) * 37) % most;
    parallel(tasks, [&](int64_t task, int) { cells[static_cast<size_t>(task)] += 1 + cells[static_cast<size_t>(task)] % 2; });
    for (int64_t t = 0; t < tasks; t++) expected += cells[static_cast<size_t>(t)] > 0;
  }
  int64_t seen = 0;
  for (const int64_t cell : cells) seen += cell;
  return seen >= expected / calls && expected > 0;
}

}  // namespace

int main() {
  bool right = call_many(400, 1000);
  std::vector<std::thread> callers;
  std::vector<char> each(3, 0);
  for (size_t i = 0; i < each.size(); i++) callers.emplace_back([&each, i] { each[i] = call_many(200, 64); });
  for (auto& t : callers) t.join();
  for (const char ok : each) right = right && ok;
  for (int i = 0; i < 3; i++) {
    const pid_t child = fork();
    if (child == 0) _exit(call_many(20, 100) ? 0 : 1);
    int status = 1;
    waitpid(child, &status, 0);
    right = right && status == 0;
  }
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
