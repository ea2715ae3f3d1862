// checks.h - inside the checked build: what is remembered about every word of memory, and what a fault report needs.
//
// Times and names are packed into 64-bit tags, so that one comparison of tags says "another launch", "another block", "another
// thread":
//   shared  block serial 20 | barrier epoch 14 | thread 10 | warp clock 14 | flags 2 | byte mask 4
//   global  launch serial 16 | block 22 | thread 10 | barrier epoch 10 | flags 2 | byte mask 4
// A barrier starts a new epoch; accesses of one epoch by two threads are unordered unless the threads are of one warp and a
// __syncwarp that named both lies between them (warp clocks), or an mbarrier that one arrived at and the other waited for (AsyncOrder).
// Stale tags never match, so nothing is cleared between blocks and
// launches until a serial has run out.
#pragma once

#include <map>
#include <vector>

#include "scheduler_hooks.h"

namespace warploom {
namespace emulator {

struct Cell {
  uint64_t writer, reader;        // last writer; first reader of its epoch
  uint32_t writer_pc, reader_pc;  // code, as offset from the library's start
};
constexpr uint64_t kMask = 0xf;         // bytes of the word
constexpr uint64_t kManyNear = 1 << 4;  // reader: also other lanes of its warp (shared), other warps of its block (global)
constexpr uint64_t kByCopy = 1 << 4;    // writer (shared): the copy engine, for that thread
constexpr uint64_t kManyFar = 1 << 5;   // reader: also other warps (shared), other blocks (global)

namespace shared_tag {
constexpr int kClock = 6, kThread = 20, kEpoch = 30, kSerial = 44;
constexpr uint64_t kClockMask = 0x3fff, kEpochMask = 0x3fff, kSerialMask = 0xfffff;
}  // namespace shared_tag
namespace global_tag {
constexpr int kEpoch = 6, kThread = 16, kBlock = 26, kSerial = 48;
constexpr uint64_t kEpochMask = 0x3ff, kBlockMask = 0x3fffff, kSerialMask = 0xffff;
// Launches are counted 1 ... 65535, then again from 1, and the cells are cleared: 0 is left to cells that nobody has touched.
constexpr uint64_t launch_number(uint64_t serial) { return 1 + serial % kSerialMask; }
}  // namespace global_tag
constexpr uint64_t kThreadMask = 0x3ff;

struct Fault {
  enum Kind {
    none,
    text,
    bounds,
    read_only,
    unwritten,
    misaligned,
    shared_bounds,
    shared_unwritten,
    shared_race,
    conflict,
    host,
    stack,
    index,
    constant
  };
  Kind kind = none;
  bool write = false, atomic = false;
  uintptr_t address = 0, pc = 0;
  size_t bytes = 0;
  bool other_write = false, same_block = false;
  uint32_t other_pc = 0;
  uint64_t other_block = 0;
  unsigned other_thread = 0;
  bool other_many = false;
  Site site{};  // where the source line is known without the pc
  const char* type = nullptr;
  unsigned long index_value = 0;
  unsigned thread = 0;      // whose access it is; its block is the running one
  bool same_value = false;  // of two writes: both wrote the same
};

struct WarpClock {  // counts the warp's __syncwarp, and its arrivals at mbarriers
  uint32_t clock = 0;
  uint32_t full = 0;        // the last one that all its lanes took part in
  bool partial = false;     // `synced` is in use
  uint16_t last[32];        // each lane's last one
  uint16_t synced[32][32];  // [mine][other]: everything `other` did before this clock is ordered before what I do now
};

// What the mbarriers of a block order. Clocks are WarpClock's; each thread knows up to which clock of each warp everything is ordered
// before what it does now, hands that on where it arrives, and learns where it waits.
struct AsyncOrder {
  uint16_t seen[kMaxThreads][kMaxThreads / 32];
  uint16_t arrived[kMaxBarriers][kMaxThreads / 32];   // of the phase that is under way
  uint16_t released[kMaxBarriers][kMaxThreads / 32];  // of those complete
  uint64_t (*reads)[kMaxThreads / 32];                // by word of the arena and warp: the tag of its last read
};

constexpr uint32_t kBudget = 1u << 20;

struct CheckState {  // one per worker
  uintptr_t shared_base = 0;
  uint32_t serial = 0, epoch = 0, block_serial = 0;
  uint64_t block_tag = 0;                                         // global_tag of the running block, without thread and epoch
  uint32_t low[kMaxSharedSites + 2], bytes[kMaxSharedSites + 2];  // by granule id: 1 + site, or the last for dynamic memory
  uint8_t granules[kSharedArena / 16];
  Cell* cells = nullptr;        // by word of the arena
  uint32_t* written = nullptr;  // block serial 28 | byte mask 4
  uintptr_t parameters = 0;
  size_t parameter_bytes = 0;
  uint32_t acquired = 0;  // see "release" in checks.cpp
  bool fenced = false;
  uint32_t budget = kBudget;         // accesses until the clock is looked at
  uint32_t budget_filled = kBudget;  // what it was last set to
  uint64_t accesses = 0;             // of this worker, without those since the budget was last filled
  uint64_t random = 1;
  Fault fault;
  WarpClock clocks[kMaxThreads / 32];
  AsyncOrder* order = nullptr;  // made at the first mbarrier
  bool ordered = false;         // the running block has one
  // Each thread's last fence.proxy.async: in which block, and at which clock of its warp. What it wrote before, wgmma may read.
  uint32_t fence_block[kMaxThreads] = {}, fence_clock[kMaxThreads] = {};
};

inline void refill(CheckState& c) {
  c.accesses += c.budget_filled - c.budget;
  c.budget = c.budget_filled = kBudget;
}

struct Segment {  // a stretch of device memory that kernels may touch
  uintptr_t low = 0, high = 0;
  bool writable = false;
  std::string name;
};

// The device's memory. owner[] names the segment of each 256-byte granule.
constexpr uint32_t kMixed = 1, kFirstRegion = 2, kFirstAllocation = 4096, kSegments = 65536;
struct Arena {
  uintptr_t base = 0;
  size_t size = 0;
  uint16_t* owner = nullptr;
  uint8_t* written = nullptr;  // by word: mask of bytes that something has written
  Cell* cells = nullptr;
  uint32_t limit = kSegments;  // segments from here on may not be touched (during a call: those of whole allocations)
  uint32_t regions = kFirstRegion;
  uintptr_t low[kSegments], high[kSegments];
  bool writable[kSegments];
};
extern Arena arena __attribute__((visibility("hidden")));
const std::string& segment_name(uint32_t id);
std::map<uintptr_t, uint32_t>& allocations();  // start -> segment
std::string operation();                       // of the call that is running

void open_async_order(Worker& w, int barrier);  // sync_checks.cpp: a new mbarrier

// Words for where an address is (faults.cpp). Not on a fiber.
std::string near_buffer(uintptr_t address);                   // "16 bytes past the end of y (1024 bytes)"
std::string buffer_at(uintptr_t address);                     // "y + 20 bytes"
std::string near_shared(const Worker& w, uintptr_t address);  // the same of shared memory
std::string shared_at(const Worker& w, uintptr_t address);

#if defined(WARPLOOM_LAB)
// kernels/lab/findings.cpp. A finding that does not keep the kernel from going on: it is written down, and the access is made.
void keep_finding(const Fault& fault);
void compare_written();  // at the access after a race of two writes: did both write the same?
// kernels/lab/statics.cpp: variables of the program, which have no place in the arena.
struct Statics {
  uintptr_t base = 0;
  size_t size = 0;
  Cell* cells = nullptr;
  uint8_t* written = nullptr;
};
extern Statics statics __attribute__((visibility("hidden")));                   // `__device__` variables
extern Statics constants __attribute__((visibility("hidden")));                 // `__constant__` ones: base and size only
void host_access(uintptr_t address, size_t bytes, bool write, const void* pc);  // of device memory, by host code
#endif

[[noreturn]] void raise_fault(const Fault& fault);
[[noreturn]] void raise_text(uintptr_t pc, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace emulator
}  // namespace warploom
