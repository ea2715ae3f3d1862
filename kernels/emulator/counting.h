// counting.h - inside the counting build: what a profiler of a GPU would count, from what each thread did.
//
// A thread writes down what it does: basic blocks (-fsanitize-coverage=trace-pc), accesses (-fsanitize=thread), functions entered and
// left (the callbacks' stack pointers tell). When the lanes of a warp meet for certain - at a barrier, at a warp operation of all of
// them, at the warp's end - what they wrote is replayed in lockstep (lockstep.cpp), as a GPU would have run it, and each access of
// the warp is counted (requests.cpp). counting.cpp writes down, count_report.cpp tells.
#pragma once

#include "scheduler_hooks.h"

namespace warploom {
namespace emulator {

// An array that grows. No std::vector: see engine.h.
template <class T>
struct Grown {
  T* data = nullptr;
  uint32_t size = 0, capacity = 0;
  T& operator[](uint32_t i) { return data[i]; }
  const T& operator[](uint32_t i) const { return data[i]; }
  void reserve(uint32_t wanted);
  void push(const T& value) {
    if (__builtin_expect(size == capacity, 0)) reserve(size + 1);
    data[size++] = value;
  }
};
void* grow(void* data, size_t before, size_t bytes);  // counted against a limit: see counting.cpp
template <class T>
__attribute__((noinline)) void Grown<T>::reserve(uint32_t wanted) {
  if (wanted <= capacity) return;
  uint32_t next = capacity ? 2 * capacity : 64;
  while (next < wanted) next *= 2;
  data = static_cast<T*>(grow(data, capacity * sizeof(T), next * sizeof(T)));
  capacity = next;
}

// ---- What a thread writes down ----

// Code: offset of a return address in the library << 2, and what it was.
enum class Mark : uint32_t { block, access, enter, leave };
inline Mark mark_of(uint32_t code) { return static_cast<Mark>(code & 3u); }

enum class Action : uint64_t { load, store, atomic, copy };  // copy: cp.async, which reads device and writes shared memory

// Address 48 | bytes 9 | action 3 | in shared memory 1. A copy has two, the source first; 0 bytes where nothing is read.
struct Access {
  static constexpr int kBytes = 48, kAction = 57, kShared = 60;
  static constexpr size_t kLongest = 256;
  static uint64_t pack(uintptr_t address, size_t bytes, Action action, bool shared) {
    return (address & ((uint64_t(1) << kBytes) - 1)) | (static_cast<uint64_t>(bytes) << kBytes) |
           (static_cast<uint64_t>(action) << kAction) | (static_cast<uint64_t>(shared) << kShared);
  }
  static uint64_t address(uint64_t a) { return a & ((uint64_t(1) << kBytes) - 1); }
  static uint32_t bytes(uint64_t a) { return static_cast<uint32_t>(a >> kBytes & 0x1ff); }
  static Action action(uint64_t a) { return static_cast<Action>(a >> kAction & 7); }
  static bool shared(uint64_t a) { return a >> kShared & 1; }
  static uint64_t kind(uint64_t a) { return a >> kAction; }
};

constexpr int kMaxFrames = 16;

struct Lane {
  Grown<uint32_t> codes;
  Grown<uint64_t> accesses;
  uint64_t hash = 0;  // of the codes and the kinds of access: equal where the same was done to other addresses
  uintptr_t stack[kMaxFrames];
  int frames = 0;
  struct CountState* state = nullptr;
  // Where the last replay ended: the last basic block of each open function.
  uint32_t at_block[kMaxFrames];
  int at_frames = 0;
};

// ---- What is counted ----

struct SiteCounts {  // one call site and kind of access
  uint64_t key;      // code 32 | bytes 9 | action 3 | shared 1 | 1
  uint64_t requests, lanes, bytes, unique_bytes, sectors, ideal_sectors, wavefronts, ideal_wavefronts;
};
struct BlockCounts {  // one basic block
  uint64_t key;       // code | 1 << 32
  uint64_t visits, lanes, divergent;
  uint32_t next;             // a block that followed
  uint32_t then, otherwise;  // two that followed
};

// By key, which is never 0; open addressing.
template <class T>
struct CountTable {
  T* rows = nullptr;
  uint32_t used = 0, capacity = 0;
  T& operator()(uint64_t key) {
    if (__builtin_expect(2 * used >= capacity, 0)) widen();
    T* row = find(key);
    if (!row->key) row->key = key, ++used;
    return *row;
  }
  void clear() {
    if (capacity) memset(static_cast<void*>(rows), 0, capacity * sizeof(T));
    used = 0;
  }

 private:
  T* find(uint64_t key) {
    uint64_t h = key * 0x9e3779b97f4a7c15ull;
    for (uint32_t i = static_cast<uint32_t>(h >> 40);; ++i) {
      T* row = &rows[i & (capacity - 1)];
      if (row->key == key || !row->key) return row;
    }
  }
  __attribute__((noinline)) void widen() {
    T* const old = rows;
    const uint32_t before = capacity;
    capacity = capacity ? 2 * capacity : 256;
    rows = static_cast<T*>(grow(nullptr, 0, capacity * sizeof(T)));
    memset(static_cast<void*>(rows), 0, capacity * sizeof(T));
    for (uint32_t i = 0; i < before; ++i)
      if (old[i].key) *find(old[i].key) = old[i];
    free(old);
  }
};

struct KernelTotals {
  uint64_t blocks_counted = 0, barriers = 0, shuffles = 0, votes = 0, warp_syncs = 0, matrix_loads = 0, warpgroup_multiplies = 0,
           warpgroup_flops = 0;
  uint64_t matrix_multiplies[4] = {};  // by TensorOp
  uint64_t static_shared = 0;
};

struct CountState {  // one per worker
  Worker* worker = nullptr;
  Lane lanes[kMaxThreads];
  uintptr_t shared_base = 0, stacks_low = 0, stacks_bytes = 0, parameters = 0, parameter_bytes = 0;
  bool counting = false;  // this block
  CountTable<SiteCounts> sites;
  CountTable<BlockCounts> blocks;
  KernelTotals totals;
  struct Lockstep* lockstep = nullptr;
};

inline void forget_counts(CountState& c) {
  c.totals = KernelTotals();
  c.sites.clear();
  c.blocks.clear();
}

// requests.cpp: one access of the lanes in `mask`; accesses[lane] points at what the lane wrote down.
void count_access(CountState& c, uint32_t code, unsigned mask, const uint64_t* const (&accesses)[32]);
// lockstep.cpp
void replay_warp(CountState& c, unsigned warp);
void make_lockstep(CountState& c);

// ---- What was asked for, and the answer (count_report.cpp) ----

struct CountOrders {
  bool on = false;
  uint64_t blocks = 0;     // of each launch, spread over the grid; 0: all
  bool skip_rest = false;  // what is not counted is not run either
  std::string calls;       // of operations that match this pattern ("conv2.*"); empty: of all
};
extern CountOrders count_orders __attribute__((visibility("hidden")));
inline bool block_counted(uint64_t block, uint64_t blocks) {
  const uint64_t wanted = count_orders.blocks;
  if (wanted == 0 || blocks <= wanted) return true;
  // One of each of `wanted` equal stretches, at another place in each: a fixed step would always meet the same column of the grid.
  const uint64_t stretch = block * wanted / blocks;
  const uint64_t first = (stretch * blocks + wanted - 1) / wanted, end = ((stretch + 1) * blocks + wanted - 1) / wanted;
  uint64_t place = (stretch + 1) * 0x9e3779b97f4a7c15ull;
  place ^= place >> 29;
  return block == first + place % (end - first);
}
#if defined(WARPLOOM_LAB)  // lab/counted.cpp
bool is_device_variable(uintptr_t address);
void keep_request(uint64_t key, unsigned mask, uint32_t bytes, const uint64_t (&address)[32]);  // one to show
std::string kept_request(uint64_t key);  // as a JSON object; empty where there is none
#endif
void add_counts(Worker& w);  // the worker's part of a launch to the whole; not on a fiber

}  // namespace emulator
}  // namespace warploom
