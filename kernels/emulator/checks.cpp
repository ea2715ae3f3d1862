// checks.cpp - what happens at every memory access of a checked kernel: bounds, roles, alignment, written before read, races.
//
// The kernels' object files call these functions before each access (GCC's -fsanitize=thread; the sanitizer's own runtime is not
// linked). An access that is found wrong is never executed: its block is given up. Long because all that one access may meet is
// compiled together and inlined; faults.cpp has the words, sync_checks.cpp barriers and warps.
#if defined(WARPLOOM_EMULATOR_CHECKED)
#include "checks.h"

#include <sys/mman.h>
#include <time.h>

#include <cstdlib>

#include "atomics_hooks.h"
#include "source_lines.h"

namespace warploom {
namespace emulator {

namespace {

enum class Kind { read, write, atomic };

inline uint32_t code_offset(const void* pc) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pc) - library_place.base);
}

[[noreturn]] __attribute__((noinline, cold)) void found(Fault::Kind kind, uintptr_t address, size_t bytes, Kind access,
                                                        const void* pc) {
  Fault f;
  f.kind = kind;
  f.address = address;
  f.bytes = bytes;
  f.write = access != Kind::read;
  f.atomic = access == Kind::atomic;
  f.pc = reinterpret_cast<uintptr_t>(pc);
  raise_fault(f);
}

// A program of the lab goes on behind what it reads too early and behind a race, as it would on a GPU: one run finds all of them.
#if defined(WARPLOOM_LAB)
#define WL_STOPS
#define WL_GIVE_UP(fault) keep_finding(fault)
#else
#define WL_STOPS [[noreturn]]
#define WL_GIVE_UP(fault) raise_fault(fault)
#endif

WL_STOPS __attribute__((noinline, cold)) void found_unwritten(Fault::Kind kind, uintptr_t address, size_t bytes, Kind access,
                                                              const void* pc) {
  Fault f;
  f.kind = kind;
  f.address = address;
  f.bytes = bytes;
  f.write = access != Kind::read;
  f.atomic = access == Kind::atomic;
  f.pc = reinterpret_cast<uintptr_t>(pc);
  WL_GIVE_UP(f);
}

WL_STOPS __attribute__((noinline, cold)) void raced(Fault::Kind kind, uintptr_t address, size_t bytes, Kind access,
                                                    const void* pc, uint64_t other, bool other_write, uint32_t other_pc) {
  Fault f;
  f.kind = kind;
  f.address = address;
  f.bytes = bytes;
  f.write = access != Kind::read;
  f.atomic = access == Kind::atomic;
  f.pc = reinterpret_cast<uintptr_t>(pc);
  f.other_write = other_write;
  f.other_pc = other_pc;
  if (kind == Fault::shared_race) {
    f.same_block = true;
    f.other_thread = static_cast<unsigned>(other >> shared_tag::kThread & kThreadMask);
  } else {
    f.other_block = other >> global_tag::kBlock & global_tag::kBlockMask;
    f.other_thread = static_cast<unsigned>(other >> global_tag::kThread & kThreadMask);
    // Where several blocks have read it, the last of them may have been this one; it raced with the others.
    f.same_block = f.other_block == (current_worker->block & global_tag::kBlockMask) && !(other & kManyFar);
  }
  f.other_many = (other & (kManyNear | kManyFar)) != 0;
  WL_GIVE_UP(f);
}

// ---- Shared memory ----

// Two accesses in one barrier epoch: ordered if the first one's warp has since arrived at an mbarrier whose phase I know to be complete,
// or, of one warp, if a __syncwarp that named both threads came between.
bool ordered(const CheckState& c, const Fiber* f, uint64_t other) {
  const unsigned thread = static_cast<unsigned>(other >> shared_tag::kThread & kThreadMask);
  if (c.ordered && !(other & kManyFar)) {
    const uint64_t then = other >> shared_tag::kClock & shared_tag::kClockMask;
    if (then == shared_tag::kClockMask || c.order->seen[f->number][thread >> 5] > then) return true;
  }
  if (thread >> 5 != f->number >> 5 || (other & kManyFar)) return false;
  const WarpClock& w = c.clocks[f->number >> 5];
  const uint32_t then = static_cast<uint32_t>(other >> shared_tag::kClock & shared_tag::kClockMask);
  if (then == shared_tag::kClockMask) return true;  // the clock has run out: cannot tell
  if (w.full > then) return true;
  if (!w.partial) return false;
  return other & kManyNear ? w.last[f->lane] > then : w.synced[f->lane][thread & 31u] > then;
}

inline bool unordered(const CheckState& c, const Fiber* f, uint64_t other, uint64_t mask) {
  const uint64_t difference = other ^ f->shared_tag;
  if (difference >> shared_tag::kEpoch || !(other & mask)) return false;  // another block or epoch; other bytes
  if (!(difference >> shared_tag::kThread) && !(other & (kManyNear | kManyFar))) return false;  // myself
  return !ordered(c, f, other);
}

// With mbarriers, several warps' reads of one phase are ordered before a write one by one: each warp's last read is remembered.
__attribute__((noinline)) uint64_t unordered_read(const CheckState& c, const Fiber* f, uintptr_t word, uint64_t mask) {
  for (unsigned warp = 0; warp < (current_worker->threads + 31) / 32; ++warp) {
    const uint64_t read = c.order->reads[word][warp];
    if (warp != f->number >> 5 && unordered(c, f, read, mask)) return read;
  }
  return 0;
}

template <Kind kind>
void shared_word(CheckState& c, Fiber* f, uintptr_t offset, uint64_t mask, size_t bytes, const void* pc) {
  const uintptr_t word = offset >> 2;
  Cell& cell = c.cells[word];
  uint32_t& written = c.written[word];
  const uint32_t written_tag = c.block_serial << 4;
  if (kind != Kind::write) {
    if ((written >> 4) != c.block_serial || (written & mask) != mask)
      found_unwritten(Fault::shared_unwritten, c.shared_base + offset, bytes, kind, pc);
  }
  if (__builtin_expect(unordered(c, f, cell.writer, mask), 0))
    raced(Fault::shared_race, c.shared_base + offset, bytes, kind, pc, cell.writer, true, cell.writer_pc);
  const uint64_t tag = f->shared_tag | mask;
  if (kind == Kind::read) {
    if (__builtin_expect(c.ordered, 0)) {
      uint64_t& last = c.order->reads[word][f->number >> 5];
      last = (last ^ tag) >> shared_tag::kClock ? tag : last | mask;
    }
    const uint64_t reader = cell.reader, difference = reader ^ f->shared_tag;
    if (difference >> shared_tag::kEpoch) {
      cell.reader = tag;
    } else {
      // Nothing to add: several warps read it, or several lanes of mine did since the last __syncwarp.
      const bool near = static_cast<unsigned>(reader >> shared_tag::kThread & kThreadMask) >> 5 == f->number >> 5;
      const bool known =
          (reader & kManyFar) || (near && (reader & kManyNear) && !(difference >> shared_tag::kClock & shared_tag::kClockMask));
      if (known && (reader & mask) == mask) return;
      const bool mine = !(difference >> shared_tag::kThread);
      // What my warp read before a __syncwarp is over: a write has to be ordered after my own read only.
      const bool over =
          near && (difference >> shared_tag::kClock & shared_tag::kClockMask) && !(reader & kManyFar) && ordered(c, f, reader);
      cell.reader = over ? tag : (reader & (kMask | kManyNear | kManyFar)) | tag | (mine ? 0 : near ? kManyNear : kManyFar);
    }
    cell.reader_pc = code_offset(pc);
  } else if (kind == Kind::write) {
    if (__builtin_expect(c.ordered, 0)) {
      if (const uint64_t read = unordered_read(c, f, word, mask))
        raced(Fault::shared_race, c.shared_base + offset, bytes, kind, pc, read, false, cell.reader_pc);
    }
    const bool only_near =
        !c.ordered || (!(cell.reader & kManyFar) && (cell.reader >> shared_tag::kThread & kThreadMask) >> 5 == f->number >> 5);
    if (__builtin_expect(only_near && unordered(c, f, cell.reader, mask), 0))
      raced(Fault::shared_race, c.shared_base + offset, bytes, kind, pc, cell.reader, false, cell.reader_pc);
    const bool mine = !((cell.writer ^ f->shared_tag) >> shared_tag::kThread);
    cell.writer = mine ? (cell.writer & kMask) | tag : tag;
    cell.writer_pc = code_offset(pc);
    written = (written >> 4 == c.block_serial ? written : written_tag) | static_cast<uint32_t>(mask);
  }
}

// ---- Device memory ----

// What a block wrote before __threadfence() and an atomic operation ("release"), and another reads after one of its own, is
// ordered: the last-block-done idiom. Addresses of the atomics are not compared, so some wrong programs pass.
struct Releases {
  uint64_t* time = nullptr;  // by block: launch serial 32 | order of its first release 32
  std::atomic<uint32_t> count{0};
  uint64_t launch = 0;
} releases;

bool released(const CheckState& c, uint64_t other) {
  if (!c.acquired) return false;
  if (other & kManyFar) return true;  // cannot tell which blocks read
  const uint64_t time = __atomic_load_n(&releases.time[other >> global_tag::kBlock & global_tag::kBlockMask], __ATOMIC_RELAXED);
  return time >> 32 == (releases.launch & 0xffffffffu) && (time & 0xffffffffu) <= c.acquired;
}

inline bool conflicting(const CheckState& c, const Fiber* f, uint64_t other, uint64_t mask) {
  const uint64_t difference = other ^ f->global_tag;
  if (difference >> global_tag::kSerial || !(other & mask)) return false;
  if (difference >> global_tag::kBlock || (other & kManyFar)) return !released(c, other);
  // One block: different warps in one epoch. Lanes of a warp are left to the hardware's own order of its instructions.
  const uint64_t epoch = f->global_tag >> global_tag::kEpoch & global_tag::kEpochMask;
  if (epoch == global_tag::kEpochMask || (difference >> global_tag::kEpoch & global_tag::kEpochMask)) return false;
  return (difference >> global_tag::kThread & kThreadMask) >> 5 != 0 || (other & kManyNear);
}

template <Kind kind, auto& memory>
void global_word(CheckState& c, Fiber* f, uintptr_t offset, uint64_t mask, size_t bytes, const void* pc) {
  const uintptr_t word = offset >> 2;
  Cell& cell = memory.cells[word];
  if (kind != Kind::write && (__atomic_load_n(&memory.written[word], __ATOMIC_RELAXED) & mask) != mask)
    found_unwritten(Fault::unwritten, memory.base + offset, bytes, kind, pc);
  const uint64_t writer = __atomic_load_n(&cell.writer, __ATOMIC_RELAXED);
  if (__builtin_expect(conflicting(c, f, writer, mask), 0))
    raced(Fault::conflict, memory.base + offset, bytes, kind, pc, writer, true, cell.writer_pc);
  if (kind == Kind::atomic) return;
  const uint64_t reader = __atomic_load_n(&cell.reader, __ATOMIC_RELAXED);
  const uint64_t tag = f->global_tag | mask;
  if (kind == Kind::read) {
    const uint64_t difference = reader ^ f->global_tag;
    uint64_t next = tag;
    // Of two threads that read different bytes the cell holds the last: kept together, each would pass for a reader of all.
    if (!(difference >> global_tag::kSerial) && ((reader & mask) || !(difference >> global_tag::kThread))) {
      // Nothing to add: several blocks read it, or several warps of mine did in this epoch, or it was I.
      const bool same_epoch = !(difference >> global_tag::kBlock) && !(difference >> global_tag::kEpoch & global_tag::kEpochMask);
      const bool mine = !(difference >> global_tag::kEpoch);
      if ((reader & mask) == mask && ((reader & kManyFar) || mine || (same_epoch && (reader & kManyNear)))) return;
      next |= reader & (kMask | kManyFar);
      if (difference >> global_tag::kBlock)
        next |= kManyFar;
      else if (same_epoch)
        next |= (reader & kManyNear) | ((difference >> global_tag::kThread & kThreadMask) >> 5 ? kManyNear : 0);
    }
    __atomic_store_n(&cell.reader, next, __ATOMIC_RELAXED);
    cell.reader_pc = code_offset(pc);
  } else {
    if (__builtin_expect(conflicting(c, f, reader, mask), 0))
      raced(Fault::conflict, memory.base + offset, bytes, kind, pc, reader, false, cell.reader_pc);
    const bool mine = !((writer ^ f->global_tag) >> global_tag::kEpoch);
    __atomic_store_n(&cell.writer, mine ? (writer & kMask) | tag : tag, __ATOMIC_RELAXED);
    cell.writer_pc = code_offset(pc);
    if (mask == kMask)
      __atomic_store_n(&memory.written[word], static_cast<uint8_t>(kMask), __ATOMIC_RELAXED);
    else
      __atomic_fetch_or(&memory.written[word], static_cast<uint8_t>(mask),
                        __ATOMIC_RELAXED);  // other blocks may write the other bytes
  }
}

#if defined(WARPLOOM_LAB)
// Variables of the program: word by word, as far as the access reaches.
template <Kind kind>
__attribute__((noinline)) void static_bytes(CheckState& c, Fiber* f, uintptr_t offset, size_t bytes, const void* pc) {
  for (size_t k = 0; k < bytes;) {
    const size_t in_word = (offset + k) & 3, n = bytes - k < 4 - in_word ? bytes - k : 4 - in_word;
    global_word<kind, statics>(c, f, offset + k, ((1u << n) - 1u) << in_word, bytes, pc);
    k += n;
  }
}
#endif

// ---- Which memory it is ----

__attribute__((noinline, cold)) void out_of_budget(CheckState& c, const void* pc) {
  static const double limit = [] {
    const char* text = getenv("WARPLOOM_EMULATOR_TIMEOUT");
    const double seconds = text ? atof(text) : 0;
    return seconds > 0 ? seconds : 60.0;
  }();
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  Fiber* f = current_fiber();
  const int64_t ns = now.tv_sec * 1000000000ll + now.tv_nsec;
#if defined(WARPLOOM_LAB)
  compare_written();
#endif
  refill(c);
  if (!f->started_ns) f->started_ns = ns;
  if (static_cast<double>(ns - f->started_ns) > limit * 1e9)
    raise_text(reinterpret_cast<uintptr_t>(pc),
               "has run for %g seconds without an end: an infinite loop? (WARPLOOM_EMULATOR_TIMEOUT sets the limit)", limit);
}

// The segment that holds the access, by search: granules that several regions share.
bool in_mixed(uintptr_t address, size_t bytes, bool write, bool* read_only) {
  for (uint32_t id = kFirstRegion; id < arena.regions; ++id) {
    if (address < arena.low[id] || address + bytes > arena.high[id]) continue;
    *read_only = write && !arena.writable[id];
    return true;
  }
  return false;
}

bool in_library(uintptr_t address);

template <Kind kind>
__attribute__((noinline, cold)) void elsewhere(CheckState& c, Fiber* f, uintptr_t address, size_t bytes, const void* pc) {
  if (address - c.parameters < c.parameter_bytes && kind == Kind::read) return;
#if defined(WARPLOOM_LAB)
  if (address - statics.base < statics.size) return static_bytes<kind>(c, f, address - statics.base, bytes, pc);
  if (kind != Kind::read && address - constants.base < constants.size) found(Fault::constant, address, bytes, kind, pc);
#endif
  if (in_library(address)) return;  // constant tables, __device__ variables
  (void)f;
  found(Fault::host, address, bytes, kind, pc);
}

template <Kind kind, bool aligned>
inline __attribute__((always_inline)) void access(const void* pointer, size_t bytes, const void* pc) {
  Fiber* f = current_fiber();
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (!f) {  // host code
#if defined(WARPLOOM_LAB)
    if (__builtin_expect(address - arena.base < arena.size, 0)) host_access(address, bytes, kind != Kind::read, pc);
#endif
    return;
  }
  CheckState& c = *f->checks;
  if (__builtin_expect(--c.budget == 0, 0)) out_of_budget(c, pc);
  const uintptr_t shared = address - c.shared_base;
  if (shared < kSharedArena) {
    if (aligned && (address & (bytes - 1))) found(Fault::misaligned, address, bytes, kind, pc);
    const uint32_t id = c.granules[shared >> 4];
    const uintptr_t at = shared - c.low[id];
    if (at >= c.bytes[id] || at + bytes > c.bytes[id]) found(Fault::shared_bounds, address, bytes, kind, pc);
    if (aligned && bytes >= 4) {
      for (size_t k = 0; k < bytes; k += 4) shared_word<kind>(c, f, shared + k, kMask, bytes, pc);
    } else if (aligned) {
      shared_word<kind>(c, f, shared, ((1u << bytes) - 1u) << (shared & 3), bytes, pc);
    } else {
      for (size_t k = 0; k < bytes;) {
        const size_t in_word = (shared + k) & 3, n = bytes - k < 4 - in_word ? bytes - k : 4 - in_word;
        shared_word<kind>(c, f, shared + k, ((1u << n) - 1u) << in_word, bytes, pc);
        k += n;
      }
    }
    return;
  }
  const uintptr_t offset = address - arena.base;
  if (offset < arena.size) {
    if (aligned && (address & (bytes - 1))) found(Fault::misaligned, address, bytes, kind, pc);
    const uint32_t id = arena.owner[offset >> 8];
    if (__builtin_expect(id == kMixed, 0)) {
      bool read_only = false;
      if (!in_mixed(address, bytes, kind != Kind::read, &read_only)) found(Fault::bounds, address, bytes, kind, pc);
      if (read_only) found(Fault::read_only, address, bytes, kind, pc);
    } else {
      if (id >= arena.limit || address < arena.low[id] || address + bytes > arena.high[id])
        found(Fault::bounds, address, bytes, kind, pc);
      if (kind != Kind::read && !arena.writable[id]) found(Fault::read_only, address, bytes, kind, pc);
    }
    if (aligned && bytes >= 4) {
      for (size_t k = 0; k < bytes; k += 4) global_word<kind, arena>(c, f, offset + k, kMask, bytes, pc);
    } else if (aligned) {
      global_word<kind, arena>(c, f, offset, ((1u << bytes) - 1u) << (offset & 3), bytes, pc);
    } else {
      for (size_t k = 0; k < bytes;) {
        const size_t in_word = (offset + k) & 3, n = bytes - k < 4 - in_word ? bytes - k : 4 - in_word;
        global_word<kind, arena>(c, f, offset + k, ((1u << n) - 1u) << in_word, bytes, pc);
        k += n;
      }
    }
    return;
  }
  if (address - reinterpret_cast<uintptr_t>(f->stack_low) < kStackBytes) return;
  elsewhere<kind>(c, f, address, bytes, pc);
}

bool in_library(uintptr_t address) { return address >= library_place.low && address < library_place.high; }

}  // namespace

void begin_releases(uint64_t serial) {
  if (!releases.time) {
    void* p = mmap(nullptr, (global_tag::kBlockMask + 1) * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw OutOfMemoryError("the checked emulated device cannot allocate its shadow memory");
    releases.time = static_cast<uint64_t*>(p);
  }
  releases.launch = serial;
  releases.count = 0;
}

namespace hooks {

void atomic_access(const void* address, size_t bytes, const void* caller) {
  Fiber* f = current_fiber();
  if (!f) return;
  access<Kind::atomic, true>(address, bytes, caller);
  CheckState& c = *f->checks;
  bool global = reinterpret_cast<uintptr_t>(address) - arena.base < arena.size;
#if defined(WARPLOOM_LAB)
  global = global || reinterpret_cast<uintptr_t>(address) - statics.base < statics.size;
#endif
  if (!global) return;
  if (c.fenced) {
    uint64_t& time = releases.time[current_worker->block & global_tag::kBlockMask];
    if (time >> 32 != (releases.launch & 0xffffffffu)) {
      const uint64_t order = ++releases.count;
      __atomic_store_n(&time, (releases.launch << 32) | order, __ATOMIC_RELEASE);
    }
  }
  c.acquired = releases.count.load();
}

// Until the copying thread waits for it, what a cp.async writes counts as written by nobody: reading it early is an error.
void copy_issued(void* shared, const void* global, size_t bytes, size_t source_bytes, const void* caller) {
  Fiber* f = current_fiber();
  CheckState& c = *f->checks;
  if (reinterpret_cast<uintptr_t>(global) & (bytes - 1))
    found(Fault::misaligned, reinterpret_cast<uintptr_t>(global), bytes, Kind::read, caller);
  if (source_bytes) access<Kind::read, false>(global, source_bytes, caller);
  access<Kind::write, true>(shared, bytes, caller);
  const uintptr_t offset = reinterpret_cast<uintptr_t>(shared) - c.shared_base;
  for (size_t k = 0; k < bytes; k += 4) c.written[(offset + k) >> 2] = c.block_serial << 4;
}

void copy_landed(void* shared, size_t bytes, const void* caller) { access<Kind::write, true>(shared, bytes, caller); }

// A run of a bulk copy: its thread answers for what it overwrites. As above, it counts as unwritten until it has landed.
void bulk_issued(Worker&, int, void* shared, const void* global, size_t bytes, size_t source_bytes, const void* caller) {
  CheckState& c = *current_fiber()->checks;
  for (size_t k = 0; k + 16 <= source_bytes; k += 16) access<Kind::read, true>(static_cast<const char*>(global) + k, 16, caller);
  for (size_t k = source_bytes & ~size_t(15); k < source_bytes; ++k)
    access<Kind::read, true>(static_cast<const char*>(global) + k, 1, caller);
  for (size_t k = 0; k < bytes; k += 16) access<Kind::write, true>(static_cast<char*>(shared) + k, 16, caller);
  const uintptr_t offset = reinterpret_cast<uintptr_t>(shared) - c.shared_base;
  for (size_t k = 0; k < bytes; k += 4) {
    c.written[(offset + k) >> 2] = c.block_serial << 4;
    c.cells[(offset + k) >> 2].writer |= kByCopy;  // even its own thread must wait
  }
}

void bulk_landed(Worker& w, void* shared, size_t bytes) {
  CheckState& c = *w.checks;
  const uintptr_t offset = reinterpret_cast<uintptr_t>(shared) - c.shared_base;
  for (size_t k = 0; k < bytes; k += 4) c.written[(offset + k) >> 2] = c.block_serial << 4 | static_cast<uint32_t>(kMask);
}

// By the tensor cores, which see what threads wrote only after a fence of those threads.
void matrix_read(const void* shared, size_t bytes, const void* caller) {
  access<Kind::read, true>(shared, bytes, caller);
  CheckState& c = *current_fiber()->checks;
  const uintptr_t word = (reinterpret_cast<uintptr_t>(shared) - c.shared_base) >> 2;
  for (size_t k = 0; k < bytes / 4; ++k) {
    const uint64_t writer = c.cells[word + k].writer;
    if (writer >> shared_tag::kSerial != c.serial || writer & kByCopy) continue;
    const unsigned thread = static_cast<unsigned>(writer >> shared_tag::kThread & kThreadMask);
    const uint64_t then = writer >> shared_tag::kClock & shared_tag::kClockMask;
    if (c.fence_block[thread] == c.block_serial && c.fence_clock[thread] > then) continue;
    raise_text(reinterpret_cast<uintptr_t>(caller),
               "wgmma reads shared memory that thread number %u wrote without a fence.proxy.async since: it may see what was "
               "there before",
               thread);
  }
}

// The word itself belongs to the barrier operations: only whether it may lie there is looked at.
void async_barrier_opened(Worker& w, int barrier, const void* word, const void* caller) {
  access<Kind::write, true>(word, 8, caller);
  open_async_order(w, barrier);
}

void fenced() {
  if (Fiber* f = current_fiber()) f->checks->fenced = true;
}

}  // namespace hooks
}  // namespace emulator
}  // namespace warploom

namespace warploom {
namespace emulator {
namespace {
using Caller = const void*;
inline bool time_for_others(const Fiber* f) { return (f->checks->budget & 63u) == 0; }
}  // namespace
}  // namespace emulator
}  // namespace warploom
#define WL_CALLER __builtin_return_address(0)
#include "callbacks.h"

WL_CALLBACK __tsan_func_entry(void*) {
  using namespace warploom::emulator;
  const Fiber* f = current_fiber();
  if (!f) return;
  const uintptr_t here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const uintptr_t low = reinterpret_cast<uintptr_t>(f->stack_low);
  if (here < low + 16 * 1024 || here > low + kStackBytes) found(Fault::stack, here, 0, Kind::write, __builtin_return_address(0));
}
WL_CALLBACK __ubsan_handle_out_of_bounds(void* data, unsigned long index) {
  using namespace warploom::emulator;
  struct Location {
    const char* file;
    uint32_t line, column;
  };
  struct Type {
    uint16_t kind, info;
    char name[1];
  };
  struct Data {
    Location location;
    const Type* array;
    const Type* index;
  };
  const Data* d = static_cast<const Data*>(data);
  if (!current_fiber()) return;  // host code: the sanitizer's own build is for that
  Fault f;
  f.kind = Fault::index;
  f.site = Site{d->location.file, static_cast<int>(d->location.line)};
  f.type = d->array->name;
  f.index_value = index;
  // The index's type is kind 0 (integer), info bit 0: signed, the rest: log2 of its width.
  const unsigned width = 1u << (d->index->info >> 1);
  if ((d->index->info & 1u) && width < 64) f.index_value = static_cast<unsigned long>(static_cast<int32_t>(index));
  raise_fault(f);
}
#endif
