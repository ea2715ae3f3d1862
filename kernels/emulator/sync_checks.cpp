// sync_checks.cpp - what the checks learn from the scheduler: blocks, threads, barriers and warp operations, as they come and go.
#if defined(WARPLOOM_EMULATOR_CHECKED)
#include <sys/mman.h>
#include <time.h>

#include <cstdlib>

#include "checks.h"
#include "source_lines.h"

namespace warploom {
namespace emulator {

void begin_releases(uint64_t serial);

void prepare_checks(Worker& w) {
  find_library();
  auto* c = new CheckState;
  memset(c->granules, 0, sizeof(c->granules));
  memset(c->low, 0, sizeof(c->low));
  memset(c->bytes, 0, sizeof(c->bytes));
  void* cells = mmap(nullptr, kSharedArena / 4 * sizeof(Cell), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (cells == MAP_FAILED) throw OutOfMemoryError("the checked emulated device cannot allocate its shadow memory");
  c->cells = static_cast<Cell*>(cells);
  c->written = new uint32_t[kSharedArena / 4]();
  c->shared_base = reinterpret_cast<uintptr_t>(w.shared);
  w.checks = c;
  for (unsigned i = 0; i < kMaxThreads; ++i) w.fibers[i].checks = c;
}

void launch_opens(const Launch& launch) {
  // Tags of 65535 launches ago would match again.
  if (global_tag::launch_number(launch.serial) == 1 && arena.cells)
    madvise(arena.cells, arena.size / 4 * sizeof(Cell), MADV_DONTNEED);
  begin_releases(launch.serial);
}

namespace {

uint64_t base_seed() {
  static const uint64_t seed = [] {
    const char* text = getenv("WARPLOOM_EMULATOR_SEED");
    return text ? strtoull(text, nullptr, 0) : 0ull;
  }();
  return seed;
}

inline uint64_t next_random(uint64_t& state) {  // xorshift64*
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1dull;
}

constexpr size_t kReadsBytes = kSharedArena / 4 * sizeof(uint64_t[kMaxThreads / 32]);

void new_serial(CheckState& c) {
  if (++c.serial <= shared_tag::kSerialMask) return;
  c.serial = 1;
  if (c.order) madvise(c.order->reads, kReadsBytes, MADV_DONTNEED);
  memset(static_cast<void*>(c.cells), 0, kSharedArena / 4 * sizeof(Cell));
}

void set_tags(CheckState& c, Fiber* f) {
  const WarpClock& w = c.clocks[f->number >> 5];
  const uint64_t clock = w.clock < shared_tag::kClockMask ? w.clock : shared_tag::kClockMask;
  const uint64_t epoch = c.epoch & shared_tag::kEpochMask;
  f->shared_tag = (static_cast<uint64_t>(c.serial) << shared_tag::kSerial) | (epoch << shared_tag::kEpoch) |
                  (static_cast<uint64_t>(f->number) << shared_tag::kThread) | (clock << shared_tag::kClock);
  const uint64_t global_epoch = c.epoch < global_tag::kEpochMask ? c.epoch : global_tag::kEpochMask;
  f->global_tag = c.block_tag | (static_cast<uint64_t>(f->number) << global_tag::kThread) | (global_epoch << global_tag::kEpoch);
}

inline void take_later(uint16_t (&mine)[kMaxThreads / 32], const uint16_t (&other)[kMaxThreads / 32]) {
  for (unsigned i = 0; i < kMaxThreads / 32; ++i)
    if (other[i] > mine[i]) mine[i] = other[i];
}

// The warp's clock goes on: what its lanes do from now on is later.
uint32_t tick(Worker& w, Fiber* self) {
  CheckState& c = *w.checks;
  WarpClock& k = c.clocks[self->number >> 5];
  if (k.clock < 0xffff) ++k.clock;
  for (unsigned i = 0; i < w.fiber_count; ++i)
    if (w.fibers[i].warp == self->warp) set_tags(c, &w.fibers[i]);
  return k.clock;
}

// Hands on what `self` knows, and all that its warp has done until now.
void release(Worker& w, Fiber* self, int barrier) {
  AsyncOrder& order = *w.checks->order;
  take_later(order.arrived[barrier], order.seen[self->number]);
  order.arrived[barrier][self->number >> 5] = static_cast<uint16_t>(tick(w, self));
}

}  // namespace

void open_async_order(Worker& w, int barrier) {
  CheckState& c = *w.checks;
  if (!c.order) {
    void* reads = mmap(nullptr, kReadsBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reads == MAP_FAILED) fail("the checked emulated device cannot allocate its shadow memory for mbarriers");
    c.order = static_cast<AsyncOrder*>(calloc(1, sizeof(AsyncOrder)));
    if (!c.order) fail("the checked emulated device cannot allocate its shadow memory for mbarriers");
    c.order->reads = static_cast<decltype(c.order->reads)>(reads);
  }
  if (!c.ordered) memset(c.order->seen, 0, sizeof(c.order->seen));
  memset(c.order->arrived[barrier], 0, sizeof(c.order->arrived[barrier]));
  memset(c.order->released[barrier], 0, sizeof(c.order->released[barrier]));
  c.ordered = true;
}

namespace hooks {

void async_proxy_fenced(Worker& w, Fiber* self) {
  CheckState& c = *w.checks;
  c.fence_clock[self->number] = tick(w, self);
  c.fence_block[self->number] = c.block_serial;
}

void async_barrier_arrived(Worker& w, Fiber* self, int barrier) { release(w, self, barrier); }
void async_barrier_reached_by_copy(Worker& w, Fiber* issuer, int barrier) { release(w, issuer, barrier); }
void async_barrier_completed(Worker& w, int barrier) {
  take_later(w.checks->order->released[barrier], w.checks->order->arrived[barrier]);
}
void async_barrier_passed(Worker& w, Fiber* self, int barrier) {
  self->started_ns = 0;
  take_later(w.checks->order->seen[self->number], w.checks->order->released[barrier]);
}

void launch_begins(Worker& w) {
  CheckState& c = *w.checks;
  c.parameters = reinterpret_cast<uintptr_t>(w.launch->request->parameters);
  c.parameter_bytes = w.launch->request->parameter_bytes;
  memset(c.granules, 0, sizeof(c.granules));
}

void block_begins(Worker& w) {
  CheckState& c = *w.checks;
  new_serial(c);
  if (++c.block_serial >= (1u << 28)) {
    c.block_serial = 1;
    memset(c.written, 0, kSharedArena / 4 * sizeof(uint32_t));
  }
  c.epoch = 0;
  c.ordered = false;
  c.acquired = 0;
  c.fenced = false;
  refill(c);
  c.fault.kind = Fault::none;
  c.block_tag = (global_tag::launch_number(w.launch->serial) << global_tag::kSerial) |
                ((w.block & global_tag::kBlockMask) << global_tag::kBlock);
  uint64_t name = 0;
  for (const char* p = w.launch->request->name; *p; ++p) name = name * 31 + static_cast<unsigned char>(*p);
  c.random = (base_seed() * 0x9e3779b97f4a7c15ull) ^ (w.block * 0xbf58476d1ce4e5b9ull) ^ name ^ 0x94d049bb133111ebull;
  if (!c.random) c.random = 1;
  for (int i = 0; i < 4; ++i) next_random(c.random);
  for (unsigned i = 0; i < w.threads; ++i) w.order[i] = static_cast<uint16_t>(i);
  for (unsigned i = w.threads; i > 1; --i) {
    const unsigned k = static_cast<unsigned>((next_random(c.random) >> 32) * i >> 32);
    const uint16_t t = w.order[i - 1];
    w.order[i - 1] = w.order[k];
    w.order[k] = t;
  }
  for (unsigned i = 0; i < (w.threads + 31) / 32; ++i) c.clocks[i].clock = c.clocks[i].full = 0, c.clocks[i].partial = false;
}

void shared_opened(Worker& w, size_t offset, size_t bytes) {
  CheckState& c = *w.checks;
  const bool dynamic = offset >= kDynamicOffset;
  const uint32_t id = dynamic ? kMaxSharedSites + 1 : static_cast<uint32_t>(w.shared_sites);
  c.low[id] = static_cast<uint32_t>(offset);
  c.bytes[id] = static_cast<uint32_t>(bytes);
  const size_t end = (offset + bytes + 15) / 16;
  memset(c.granules + offset / 16, static_cast<int>(id), end - offset / 16);
  memset(c.granules + end, 0, kRedZone / 16);
}

void thread_begins(Worker& w, Fiber* self) {
  self->started_ns = 0;
  self->site = Site{};
  refill(*w.checks);
  set_tags(*w.checks, self);
}

void barrier_reached(Worker& w, Fiber* self, Site site) {
  self->site = site;
  if (w.live != w.threads)
    fail("reaches __syncthreads, but %u of the block's %u threads have returned already: every thread must reach every barrier",
         w.threads - w.live, w.threads);
  if (w.arrived == 0)
    w.barrier_site = site;
  else if (w.barrier_site.line != site.line || (w.barrier_site.file != site.file && strcmp(w.barrier_site.file, site.file) != 0))
    fail(
        "reaches this __syncthreads while %u threads of its block wait at another one, line %d: all threads must meet at the "
        "same barrier",
        w.arrived, w.barrier_site.line);
}

void barrier_without(Worker& w, Fiber* exited) {
  exited->site = w.barrier_site;
  fail("returned, but %u threads of its block wait for it at __syncthreads: every thread must reach every barrier", w.arrived);
}

// The order in which the threads go on is random too: one riffle of the list.
void barrier_released(Worker& w) {
  CheckState& c = *w.checks;
  if ((++c.epoch & shared_tag::kEpochMask) == 0) new_serial(c);  // epochs have run out: go on as if it were another block
  FiberList first, second;
  while (Fiber* f = w.ready.pop()) {
    if (next_random(c.random) >> 63)
      first.append(f);
    else
      second.append(f);
  }
  first.append(second);
  w.ready = first;
}

void barrier_passed(Worker& w, Fiber* self) {
  self->site = Site{};
  self->started_ns = 0;
  set_tags(*w.checks, self);
}

// Only __syncwarp orders memory; shuffles and votes do not.
void warp_completed(Worker& w, Warp& warp, const Rendezvous& r) {
  if (r.op != WarpOp::sync) return;
  CheckState& c = *w.checks;
  WarpClock& k = c.clocks[&warp - w.warps];
  if (c.ordered) {
    uint16_t together[kMaxThreads / 32] = {};
    uint16_t (*const seen)[kMaxThreads / 32] = c.order->seen + (&warp - w.warps) * 32;
    for (unsigned rest = r.arrived; rest; rest &= rest - 1) take_later(together, seen[__builtin_ctz(rest)]);
    for (unsigned rest = r.arrived; rest; rest &= rest - 1) memcpy(seen[__builtin_ctz(rest)], together, sizeof(together));
  }
  ++k.clock;
  const uint32_t now = k.clock < 0xffff ? k.clock : 0xffff;
  if ((r.arrived | warp.exited) == 0xffffffffu) {
    k.full = now;
    return;
  }
  if (!k.partial) {
    k.partial = true;
    memset(k.synced, 0, sizeof(k.synced));
    memset(k.last, 0, sizeof(k.last));
  }
  uint16_t merged[32] = {};
  for (unsigned rest = r.arrived; rest; rest &= rest - 1) {
    const uint16_t* row = k.synced[__builtin_ctz(rest)];
    for (int j = 0; j < 32; ++j)
      if (row[j] > merged[j]) merged[j] = row[j];
  }
  for (unsigned rest = r.arrived; rest; rest &= rest - 1) merged[__builtin_ctz(rest)] = static_cast<uint16_t>(now);
  for (unsigned rest = r.arrived; rest; rest &= rest - 1) {
    memcpy(k.synced[__builtin_ctz(rest)], merged, sizeof(merged));
    k.last[__builtin_ctz(rest)] = static_cast<uint16_t>(now);
  }
}

void warp_passed(Worker& w, Fiber* self) {
  self->site = Site{};
  set_tags(*w.checks, self);
}

void failed_at(Worker& w, Site site) {
  w.checks->fault = Fault();
  w.checks->fault.kind = Fault::text;
  w.checks->fault.site = site;
}

}  // namespace hooks
}  // namespace emulator
}  // namespace warploom
#endif
