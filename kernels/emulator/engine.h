// engine.h - inside the emulator: fibers, the threads of a block, the worker that runs blocks. Kernels never see this file.
//
// A block runs on one worker (an OS thread). Its threads start one after another on one fiber; only when a thread has to wait
// does the worker go on with the next ones on another fiber, so a kernel that never synchronises is a plain loop. Threads wait at
// the block's barrier or at a warp rendezvous; whoever completes one makes the others ready, in the order in which they came.
// Code that runs on a fiber uses no std:: templates: in the checked build their instantiations may be the instrumented ones of
// the kernels.
#pragma once

#include <atomic>
#include <cstdarg>
#include <exception>
#include <mutex>
#include <string>
#include <vector>

#define WARPLOOM_EMULATOR_RUNTIME 1
#include "cuda.h"

namespace warploom {
namespace emulator {

constexpr unsigned kMaxThreads = 1024;
constexpr size_t kStackBytes = 65 * 4096;  // the lowest page is a guard; an odd number of pages spreads them over the TLB's sets
constexpr size_t kStaticShared = 48 * 1024;     // as on every GPU since sm_30
constexpr size_t kSharedPerBlock = 227 * 1024;  // as on compute capability 9.0, by opt-in
constexpr size_t kSharedArena = 384 * 1024;     // room for red zones around each declaration
constexpr size_t kDynamicOffset = 128 * 1024;   // dynamic shared memory starts here in the arena
constexpr int kMaxSharedSites = 64;
constexpr int kMaxBarriers = 64;  // mbarriers of a block

struct Worker;
struct Warp;

enum class Wait : uint8_t { none, barrier, warp, async_barrier };

struct Fiber : Identity {  // a stack, and the thread that is on it
  Fiber* next = nullptr;   // in one of the worker's lists
  void* stack_pointer = nullptr;
  Warp* warp = nullptr;
  unsigned lane = 0;
  Wait wait = Wait::none;
  Site site{};  // where it waits
  char* stack_low = nullptr;
  unsigned stack_index = 0;
  struct AsyncCopies* copies = nullptr;        // made at the first cp.async of a thread on this stack, kept
  struct WarpgroupWork* multiplies = nullptr;  // the same of wgmma
#if defined(WARPLOOM_EMULATOR_CHECKED)
  struct CheckState* checks = nullptr;
  uint64_t shared_tag = 0, global_tag = 0;  // who it is, and when: see checks.h
  int64_t started_ns = 0;
#elif defined(WARPLOOM_EMULATOR_COUNTING)
  struct Lane* counted = nullptr;  // where what it does is written down; null while its block is not counted
#endif
};

struct FiberList {
  Fiber* head = nullptr;
  Fiber* tail = nullptr;
  void append(Fiber* f) {
    f->next = nullptr;
    if (head)
      tail->next = f;
    else
      head = f;
    tail = f;
  }
  void append(FiberList& other) {
    if (!other.head) return;
    if (head)
      tail->next = other.head;
    else
      head = other.head;
    tail = other.tail;
    other.head = other.tail = nullptr;
  }
  Fiber* pop() {
    Fiber* f = head;
    if (f) {
      head = f->next;
      if (head) __builtin_prefetch(head->stack_pointer);  // the switch after this one starts with a load from there
    }
    return f;
  }
};

struct Rendezvous {  // lanes of one mask on their way to one warp operation
  unsigned mask = 0, arrived = 0;
  WarpOp op = WarpOp::sync;
  Site site{};
  FiberList waiting;
};

struct Warp {
  unsigned exited = 0;  // lanes that have returned, and lanes beyond the block's last thread
  int pending = 0;      // rendezvous[0 .. pending)
  uint64_t value[32];
  uint64_t result[32];
  uint8_t source[32];
  uint64_t matrices;  // of its wgmmas, in order: a hash
  Rendezvous rendezvous[32];
};

struct SharedSite {
  const void* site;
  const char* name;
  uint32_t offset, bytes;
};

struct Launch {
  const LaunchRequest* request = nullptr;
  uint64_t blocks = 0, claim = 1;
  unsigned threads = 0;
  std::atomic<uint64_t> next_block{0};
  std::atomic<uint64_t> failed_block{
      ~0ull};  // the lowest; blocks before it still run, so that the report does not depend on timing
  std::mutex failure_lock;
  std::string failure;
  std::exception_ptr exception;
  uint64_t serial = 0;
#if defined(WARPLOOM_EMULATOR_COUNTING)
  std::string call;      // the operation it belongs to: "conv2.conv2d_forward"
  bool counted = false;  // as was asked for
#endif
};

struct Worker {
  Launch* launch = nullptr;
  uint64_t block = 0;
  // The block that is running
  unsigned threads = 0, started = 0, live = 0, arrived = 0;
  int vote_count = 0, vote_result = 0;
  uint32_t naps = 0;  // since a thread last ended or all passed a barrier
  double nap_started = 0;
  uint32_t atomics = 0;
  Site barrier_site{};
  FiberList ready, at_barrier;
  Fiber* idle = nullptr;
  unsigned fiber_count = 0;
  uint32_t thread_x = 0, thread_y = 0, thread_z = 0;
  void* scheduler_stack = nullptr;
  bool failed = false;
  std::exception_ptr exception;
  char failure[2048];
  // Shared memory
  char* shared = nullptr;  // kSharedArena bytes
  int shared_sites = 0;
  size_t static_bytes = 0, static_top = 0;
  SharedSite sites[kMaxSharedSites];
  struct AsyncState* async = nullptr;  // made at the first mbarrier, kept
  uint64_t seed = 0;
  uint16_t order[kMaxThreads];
  Fiber* fibers = nullptr;
  Warp* warps = nullptr;
  char* stacks = nullptr;
  unsigned long owner = 0;  // the OS thread whose thread-local addresses the fibers may have cached
#if defined(WARPLOOM_EMULATOR_CHECKED)
  struct CheckState* checks = nullptr;
#elif defined(WARPLOOM_EMULATOR_COUNTING)
  struct CountState* counts = nullptr;
#endif
};

extern __thread Worker* current_worker __attribute__((tls_model("initial-exec"), visibility("hidden")));
inline Fiber* current_fiber() { return static_cast<Fiber*>(current_identity); }

// fibers.cpp
void switch_stack(void** save, void* to);
void prepare_fiber(Fiber* fiber, void (*entry)());  // next switch to it calls entry
void make_stacks(Worker& worker);
void open_stack(Worker& worker, unsigned index);  // first use: guard page

// scheduler.cpp
void run_block(Worker& worker, uint64_t block);
void start_launch(Worker& worker, Launch& launch);
void switch_away(Worker& worker, Fiber* self);  // until somebody has made `self` ready
// Gives the block up: the text (printf) goes to the launch, nothing on the block's fibers runs again.
[[noreturn]] void abandon(Worker& worker);
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string where(const Launch& launch, uint64_t block);  // "conv2d_forward: block (1, 0, 0)"

// tensor_cores.cpp: what the lanes of a warp brought to a TensorOp (pointers to their operands) becomes what each of them gets
void complete_tensor_op(int op, unsigned arrived, const uint64_t (&operands)[32]);

// async_copies.cpp
void forget_copies(Fiber* fiber);  // a new thread begins on this stack

// async_barriers.cpp; `w.async` is there
bool land_waited_for(Worker& w);  // nobody can run: copies that somebody waits for land; whether that made anybody ready
bool copies_under_way(const Worker& w);
void forget_async(Worker& w);
// "; 96 at an mbarrier at file:line whose phase 3 lacks ..."; `place` splits a site into a file (or null) and a line
int describe_async_waiting(const Worker& w, const char* (*place)(const Site&, int*), char* text, size_t size);

// warpgroup.cpp
void forget_multiplies(Fiber* fiber);
void require_multiplies_done(const Fiber* fiber);
void registers_written(Fiber* fiber);                           // since the last wgmma.fence
int warpgroup_error(const Worker& w, char* text, size_t size);  // characters written, 0 if there is none

// pool.cpp
int worker_count();
const std::vector<Worker*>& every_worker();  // that has been made
uint64_t last_launch();                      // serial of
uint64_t next_serial();                      // during a launch: what its blocks do from now on counts as another one
std::string emulator_threads_problem();

#if defined(WARPLOOM_EMULATOR_CHECKED)
constexpr bool kChecked = true;
constexpr bool kNamesCalls = true;  // wants to hear which operation launches belong to
constexpr const char* kKind = "emulated:checked";
constexpr const char* kDescription = "emulated, checked, on ";
#elif defined(WARPLOOM_EMULATOR_COUNTING)
constexpr bool kChecked = false;
constexpr bool kNamesCalls = true;
constexpr const char* kKind = "emulated:counting";
constexpr const char* kDescription = "emulated, counting, on ";
#else
constexpr bool kChecked = false;
constexpr bool kNamesCalls = false;
constexpr const char* kKind = "emulated";
constexpr const char* kDescription = "emulated on ";
#endif

}  // namespace emulator
}  // namespace warploom
