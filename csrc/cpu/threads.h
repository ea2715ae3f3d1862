// threads.h - the worker threads of the host kernel set.
//
// parallel(n, f) calls f(task, worker) once for every task of 0..n-1 and returns when all are done. Every worker starts with an
// equal, contiguous share and takes from others when its own is used up; which worker runs a task must not change the result, so
// every task owns what it writes and reductions go through numbered partial results. Hence the same bits for any thread count.
//
// Number of threads: WARPLOOM_THREADS, else the CPUs of the affinity mask, limited by the cgroup's quota. WARPLOOM_PIN=1 binds
// each worker to one CPU. Idle workers spin for a moment, then sleep.
#pragma once

#include <cstdint>

namespace warploom::cpu {

int thread_count();
void parallel_run(int64_t tasks, void (*call)(void* context, int64_t task, int worker), void* context);

template <class F>
void parallel(int64_t tasks, F&& f) {
  parallel_run(tasks, [](void* context, int64_t task, int worker) { (*static_cast<F*>(context))(task, worker); }, &f);
}

// Splits 0..count-1 into blocks of `block`; f(begin, end, worker).
template <class F>
void parallel_blocks(int64_t count, int64_t block, F&& f) {
  parallel((count + block - 1) / block, [&](int64_t task, int worker) {
    const int64_t begin = task * block;
    f(begin, begin + block < count ? begin + block : count, worker);
  });
}

}  // namespace warploom::cpu
