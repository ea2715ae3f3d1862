// threads.cpp - the worker pool: static shares with stealing, spin then sleep, rebuilt after fork().
//
// Compiled for the baseline instruction set, since thread_count() is asked before the CPU check.
#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "kernels/device.h"

namespace warploom::cpu {
namespace {

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// CPUs that the cgroup's quota buys, or a large number. Version 2, then version 1.
double cgroup_cpus() {
  constexpr double kNone = 1e9;
  std::string folder = "/sys/fs/cgroup";
  std::ifstream self("/proc/self/cgroup");
  std::vector<std::string> places = {folder};
  for (std::string line; std::getline(self, line);)
    if (line.rfind("0::", 0) == 0) places.push_back(folder + line.substr(3));
  double cpus = kNone;
  for (const auto& place : places) {
    std::ifstream file(place + "/cpu.max");
    std::string quota;
    double period = 0;
    if (file >> quota >> period && quota != "max" && period > 0) cpus = std::min(cpus, std::atof(quota.c_str()) / period);
  }
  std::ifstream quota_file(folder + "/cpu/cpu.cfs_quota_us"), period_file(folder + "/cpu/cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (quota_file >> quota && period_file >> period && quota > 0 && period > 0) cpus = std::min(cpus, quota / period);
  return cpus;
}

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) cpus.push_back(i);
  return cpus;
}

constexpr int kMaxThreads = 256;
constexpr int64_t kMostTasks = int64_t(1) << 31;

int decide_thread_count() {
  if (const char* text = std::getenv("WARPLOOM_THREADS"); text && *text) {
    char* end = nullptr;
    const long n = std::strtol(text, &end, 10);
    if (*end != 0 || n < 1 || n > kMaxThreads)
      throw DeviceError("WARPLOOM_THREADS is \"" + std::string(text) + "\"; it must be a whole number from 1 to " +
                        std::to_string(kMaxThreads));
    return static_cast<int>(n);
  }
  double n = static_cast<double>(allowed_cpus().size());
  if (n < 1) n = std::max(1u, std::thread::hardware_concurrency());
  n = std::min(n, std::ceil(cgroup_cpus()));
  return std::clamp(static_cast<int>(n), 1, kMaxThreads);
}

// begin and end of a share in one word, so that owner and thief change it in one step.
struct alignas(128) Share {
  std::atomic<uint64_t> range{0};
};

class Pool {
 public:
  explicit Pool(int threads) : threads_(threads), shares_(new Share[static_cast<size_t>(threads)]) {
    const char* pin = std::getenv("WARPLOOM_PIN");
    const auto cpus = allowed_cpus();
    std::vector<std::thread> workers;
    workers.reserve(static_cast<size_t>(threads));
    try {
      for (int i = 1; i < threads; ++i) {
        workers.emplace_back([this, i] { work(i); });
        if (pin && *pin == '1' && static_cast<int>(cpus.size()) >= threads) {
          cpu_set_t set;
          CPU_ZERO(&set);
          CPU_SET(cpus[static_cast<size_t>(i)], &set);
          pthread_setaffinity_np(workers.back().native_handle(), sizeof(set), &set);
        }
      }
    } catch (const std::exception& e) {  // those that run end before the pool that they look at does
      begin_generation(true);
      for (auto& worker : workers) worker.join();
      if (!dynamic_cast<const std::system_error*>(&e)) throw;
      throw DeviceError("cannot start thread " + std::to_string(workers.size() + 2) + " of " + std::to_string(threads) + ": " +
                        e.what() + "; set WARPLOOM_THREADS lower");
    }
    for (auto& worker : workers) worker.detach();  // they live as long as the process
  }

  void run(int64_t tasks, void (*call)(void*, int64_t, int), void* context) {
    const std::lock_guard<std::mutex> one_caller(caller_);
    if (threads_ == 1 || tasks == 1) {
      for (int64_t t = 0; t < tasks; ++t) call(context, t, 0);
      return;
    }
    call_ = call;
    context_ = context;
    for (int i = 0; i < threads_; ++i) {
      const auto begin = static_cast<uint64_t>(tasks * i / threads_), end = static_cast<uint64_t>(tasks * (i + 1) / threads_);
      shares_[i].range.store(begin << 32 | end, std::memory_order_relaxed);
    }
    busy_.store(threads_ - 1, std::memory_order_relaxed);
    begin_generation(false);
    drain(0);
    // Workers still inside a task, or still about to look for one, must be out before the shares are refilled.
    for (int spins = 0; busy_.load(std::memory_order_acquire) != 0; ++spins) {
      pause();
      if (spins > 2000) std::this_thread::yield();
    }
  }

 private:
  void begin_generation(bool last) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (last) ending_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    if (sleepers_.load() > 0) wake_.notify_all();
  }

  bool take(int owner, bool from_end, int64_t* task) {
    auto& range = shares_[owner].range;
    uint64_t seen = range.load(std::memory_order_relaxed);
    for (;;) {
      const uint64_t begin = seen >> 32, end = seen & 0xffffffffu;
      if (begin >= end) return false;
      const uint64_t next = from_end ? (begin << 32 | (end - 1)) : ((begin + 1) << 32 | end);
      if (range.compare_exchange_weak(seen, next, std::memory_order_acq_rel)) {
        *task = static_cast<int64_t>(from_end ? end - 1 : begin);
        return true;
      }
    }
  }

  void drain(int worker) {
    int64_t task;
    for (int k = 0; k < threads_; ++k)
      while (take((worker + k) % threads_, k != 0, &task)) call_(context_, task, worker);
  }

  void work(int worker) {
    uint64_t seen = 0;
    for (;;) {
      for (int spins = 0; spins < 4000 && generation_.load(std::memory_order_acquire) == seen; ++spins) pause();
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++sleepers_;
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
        --sleepers_;
      }
      ++seen;  // run() waits for every worker, so generations never skip
      if (ending_) return;
      drain(worker);
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  const int threads_;
  std::unique_ptr<Share[]> shares_;
  void (*call_)(void*, int64_t, int) = nullptr;
  void* context_ = nullptr;
  std::mutex caller_, mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> sleepers_{0}, busy_{0};
  bool ending_ = false;  // written before the generation in which it is read
};

std::atomic<Pool*> pool{nullptr};
std::mutex pool_mutex;

Pool& get_pool() {
  Pool* p = pool.load(std::memory_order_acquire);
  if (p) return *p;
  const std::lock_guard<std::mutex> lock(pool_mutex);
  if (!pool.load()) {
    static const int registered = pthread_atfork(nullptr, nullptr, [] {
      pool.store(nullptr);  // the child has no workers; it builds its own pool when it needs one
      new (&pool_mutex) std::mutex;
    });
    (void)registered;
    pool.store(new Pool(thread_count()));
  }
  return *pool.load();
}

}  // namespace

int thread_count() {
  static const int n = decide_thread_count();
  return n;
}

void parallel_run(int64_t tasks, void (*call)(void*, int64_t, int), void* context) {
  if (tasks <= 0) return;
  if (tasks == 1 || thread_count() == 1) {
    for (int64_t t = 0; t < tasks; ++t) call(context, t, 0);
    return;
  }
  // A share's begin and end are 32 bits each: more tasks than that go in several rounds.
  struct Round {
    void (*call)(void*, int64_t, int);
    void* context;
    int64_t first;
  };
  for (int64_t first = 0; first < tasks; first += kMostTasks) {
    Round round{call, context, first};
    const auto shifted = [](void* r, int64_t task, int worker) {
      const auto* of = static_cast<const Round*>(r);
      of->call(of->context, of->first + task, worker);
    };
    if (tasks <= kMostTasks)
      get_pool().run(tasks, call, context);
    else
      get_pool().run(std::min(kMostTasks, tasks - first), shifted, &round);
  }
}

}  // namespace warploom::cpu
