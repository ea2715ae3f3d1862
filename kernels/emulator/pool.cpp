// pool.cpp - the OS threads that run blocks, and run(): one launch from start to end.
//
// The launching thread is worker 0; the others sleep between launches. Blocks are claimed from one counter. The pool is never
// destroyed (its threads may not be joined while a library is unloaded), and after fork() the child makes its own.
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "recording.h"
#include "scheduler_hooks.h"

namespace warploom {
namespace emulator {
void reset_worker(Worker& w);

namespace {

bool read_numbers(const char* path, double* a, double* b) {
  FILE* f = fopen(path, "r");
  if (!f) return false;
  const int n = b ? fscanf(f, "%lf %lf", a, b) : fscanf(f, "%lf", a);
  fclose(f);
  return n == (b ? 2 : 1);
}

int default_workers() {
  int count = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) count = CPU_COUNT(&set);
  double quota = 0, period = 0;
  // "max 100000" does not parse as two numbers: no limit.
  if (read_numbers("/sys/fs/cgroup/cpu.max", &quota, &period) ||
      (read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota, nullptr) &&
       read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period, nullptr))) {
    const int limit = quota > 0 && period > 0 ? static_cast<int>(quota / period + 0.999) : count;
    if (limit >= 1 && limit < count) count = limit;
  }
  return count < 1 ? 1 : count;
}

int requested_workers(std::string* problem) {
  const char* text = getenv("WARPLOOM_THREADS");
  if (!text || !*text) return default_workers();
  char* end = nullptr;
  const long n = strtol(text, &end, 10);
  if (*end || n < 1 || n > 1024) {
    if (problem) *problem = std::string("WARPLOOM_THREADS is \"") + text + "\"; give a number of threads from 1 to 1024";
    return 1;
  }
  return static_cast<int>(n);
}

std::vector<Worker*>& all_workers() {  // of every pool; they are never destroyed
  static auto* workers = new std::vector<Worker*>;
  return *workers;
}

std::unique_ptr<Worker> make_worker() {
  std::unique_ptr<Worker> w(new Worker);
  w->fibers = new Fiber[kMaxThreads];
  w->warps = new Warp[kMaxThreads / 32];
  void* arena = mmap(nullptr, kSharedArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (arena == MAP_FAILED) throw OutOfMemoryError("the emulated device cannot allocate its shared memory");
  w->shared = static_cast<char*>(arena);
  make_stacks(*w);
  prepare_checks(*w);
  return w;
}

// Claims and runs blocks until there are none, or one before them has failed.
void work(Worker& w, Launch& launch) {
  const unsigned long self = static_cast<unsigned long>(pthread_self());
  if (w.owner != self) {  // suspended fibers may hold addresses of another OS thread's variables
    reset_worker(w);
    w.owner = self;
  }
  start_launch(w, launch);
  for (;;) {
    const uint64_t first = launch.next_block.fetch_add(launch.claim, std::memory_order_relaxed);
    if (first >= launch.blocks) break;
    const uint64_t end = first + launch.claim < launch.blocks ? first + launch.claim : launch.blocks;
    for (uint64_t block = first; block < end; ++block) {
      if (block > launch.failed_block.load(std::memory_order_relaxed)) return;
      const uint64_t number = hooks::nth_block(block, launch.blocks);
      if (!hooks::block_wanted(w, number)) continue;
      run_block(w, number);
      if (!w.failed) continue;
      const std::lock_guard<std::mutex> hold(launch.failure_lock);
      if (block < launch.failed_block) {
        launch.failed_block = block;
        launch.exception = w.exception;
        launch.failure = w.exception ? "" : where(launch, number) + ", " + w.failure + fault_location(w);
      }
      w.failed = false;
      w.exception = nullptr;
    }
  }
  hooks::launch_ends(w);
}

class Pool {
 public:
  explicit Pool(int count) : process_(getpid()) {
    for (int i = 0; i < count; ++i) workers_.push_back(make_worker());
    all_workers().reserve(all_workers().size() + workers_.size());  // all are noted, or none
    for (const auto& w : workers_) all_workers().push_back(w.get());
    for (int i = 1; i < count; ++i) {
      try {
        std::thread([this, i] { serve(*workers_[static_cast<size_t>(i)]); }).detach();
      } catch (const std::exception&) {
        break;  // fewer threads than wished: the launching thread does the rest
      }
    }
  }
  bool usable() const { return process_ == getpid(); }
  int size() const { return static_cast<int>(workers_.size()); }

  void run(Launch& launch) {
    const bool shared = launch.blocks > 1 && workers_.size() > 1;
    if (shared) {
      const std::lock_guard<std::mutex> hold(lock_);
      open_ = &launch;
      ++generation_;
      wake_.notify_all();
    }
    Worker* const worker_before = current_worker;
    work(*workers_[0], launch);
    current_worker = worker_before;
    if (shared) {
      std::unique_lock<std::mutex> hold(lock_);
      open_ = nullptr;
      done_.wait(hold, [this] { return active_ == 0; });
    }
  }

 private:
  void serve(Worker& w) {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> hold(lock_);
    for (;;) {
      wake_.wait(hold, [&] { return open_ && generation_ != seen; });
      seen = generation_;
      Launch& launch = *open_;
      ++active_;
      hold.unlock();
      work(w, launch);
      hold.lock();
      if (--active_ == 0) done_.notify_all();
    }
  }

  const pid_t process_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::mutex lock_;
  std::condition_variable wake_, done_;
  Launch* open_ = nullptr;
  uint64_t generation_ = 0;
  int active_ = 0;
};

struct Shared {  // one launch at a time
  std::mutex lock;
  Pool* pool = nullptr;
  Pool* large = nullptr;  // one worker for each block of a grid that waits for itself
  uint64_t serial = 0;
};
Shared& shared_state() {
  static Shared* state = [] {
    pthread_atfork(nullptr, nullptr, [] {
      new (&shared_state().lock) std::mutex;  // the child has no threads that could hold it
    });
    return new Shared;
  }();
  return *state;
}

}  // namespace

int worker_count() {
  static const int count = requested_workers(nullptr);
  return count;
}

const std::vector<Worker*>& every_worker() { return all_workers(); }
uint64_t last_launch() { return shared_state().serial; }
uint64_t next_serial() { return ++shared_state().serial; }

std::string emulator_threads_problem() {
  std::string problem;
  requested_workers(&problem);
  return problem;
}

void run(const LaunchRequest& request) {
  if (keep_launch(request)) return;
  if (current_identity) fail("a kernel launched a kernel: the emulated device has no dynamic parallelism");
  if (request.shared_bytes > kSharedPerBlock)
    throw DeviceError(std::string(request.name) + ": a block asks for " + std::to_string(request.shared_bytes) +
                      " bytes of dynamic shared memory, the limit is " + std::to_string(kSharedPerBlock));
  const uint64_t threads = uint64_t(request.block.x) * request.block.y * request.block.z;
  if (threads == 0 || threads > kMaxThreads)
    throw DeviceError(std::string(request.name) + ": launch block size is " + std::to_string(threads) +
                      ", it must be from 1 to " + std::to_string(kMaxThreads));
  Launch launch;
  launch.request = &request;
  launch.threads = static_cast<unsigned>(threads);
  launch.blocks = uint64_t(request.grid.x) * request.grid.y * request.grid.z;
  if (launch.blocks == 0) return;
  Shared& shared = shared_state();
  const std::lock_guard<std::mutex> hold(shared.lock);
  if (!shared.pool || !shared.pool->usable()) shared.pool = new Pool(worker_count());
  Pool* pool = shared.pool;
  if (request.all_at_once) {
    if (!shared.large || !shared.large->usable() || static_cast<uint64_t>(shared.large->size()) < launch.blocks)
      shared.large = new Pool(static_cast<int>(launch.blocks));
    pool = shared.large;
  }
  const uint64_t per_worker = launch.blocks / static_cast<uint64_t>(shared.pool->size());
  launch.claim = request.all_at_once || per_worker < 64 ? 1 : per_worker / 32 < 64 ? per_worker / 32 : 64;
  launch.serial = ++shared.serial;
  launch_opens(launch);
  pool->run(launch);
  if (launch.exception) std::rethrow_exception(launch.exception);
  if (!launch.failure.empty()) throw KernelFault(launch.failure);
}

}  // namespace emulator
}  // namespace warploom
