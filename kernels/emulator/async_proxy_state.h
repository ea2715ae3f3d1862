// async_proxy_state.h - inside the emulator: a worker's mbarriers and bulk copies, a thread's wgmmas.
#pragma once

#include "async_proxy.h"
#include "engine.h"

namespace warploom {
namespace emulator {

struct BulkCopy {
  BulkCopy* next;
  char* to;
  uint32_t bytes;
  bool tensor;
  const char* from;
  TensorMap map;
  int at[4];
};

struct AsyncBarrierState {
  char* word = nullptr;  // in shared memory; holds kBarrierMark and the index
  uint32_t expected = 0, pending = 0, phase = 0;
  int64_t bytes = 0;       // expected and not yet landed in this phase; below 0 where a copy landed before it was expected
  bool published = false;  // the fence that shows it to the copy engine has come
  Site site{};             // of its init
  FiberList waiting;
  BulkCopy* first = nullptr;  // under way
  BulkCopy* last = nullptr;
};

struct AsyncState {  // one per worker, made at the first mbarrier
  AsyncBarrierState barriers[kMaxBarriers];
  int count = 0;
  uint32_t under_way = 0;
  BulkCopy* spare = nullptr;
};

// async_barriers.cpp
AsyncBarrierState& barrier_at(void* barrier, Site site);
void complete_if_due(Worker& w, AsyncBarrierState& b);
// bulk_copies.cpp
bool land_copies(Worker& w, AsyncBarrierState& b);  // those that b waits for; whether there were any

struct WarpgroupWork {  // of one thread
  static constexpr int kMost = 128, kAccumulators = 4, kMostColumns = 256;
  struct Item {
    uint32_t a[4];
    uint64_t b;
    OperandType type;
    bool across;
    int n, accumulator;
    uint32_t group;
  };
  struct Accumulator {
    float* d;  // the thread's registers, NaN while wgmmas that add to them are under way
    int n, open;
    float value[kMostColumns / 2];
  };
  Item items[kMost];
  Accumulator accumulators[kAccumulators];
  int first = 0, count = 0;
  uint32_t group = 0;  // the one that is open
  bool fenced = false;
};
// tensor_cores.cpp
float decode_element(OperandType type, const char* from, int index);
void gather_fragment(OperandType type, int lane, const uint32_t (&r)[4], float (&a)[16][16]);
// warpgroup.cpp
uint64_t due_multiplies(const Warp& warp);  // of the wait that its lanes have met in
uint64_t due_flops(const Warp& warp);       // of this warp's rows
void complete_warpgroup_wait(const uint64_t (&operands)[32]);

}  // namespace emulator
}  // namespace warploom
