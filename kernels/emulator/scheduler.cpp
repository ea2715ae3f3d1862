// scheduler.cpp - the threads of one block: starting, waiting at barriers and warp operations, ending, giving up.
#include <time.h>

#include <cstdio>
#include <cstdlib>

#include "scheduler_hooks.h"

namespace warploom {
namespace emulator {

__thread Identity* current_identity __attribute__((tls_model("initial-exec"), visibility("hidden"))) = nullptr;
__thread BlockIdentity current_block __attribute__((tls_model("initial-exec"), visibility("hidden"))) = {};
__thread Worker* current_worker __attribute__((tls_model("initial-exec"), visibility("hidden"))) = nullptr;

namespace {

// Leaves the calling fiber for good or until somebody switches back; `save` takes its stack pointer.
inline void go(void** save, Fiber* to) {
  current_identity = to;
  switch_stack(save, to->stack_pointer);
}

void fiber_entry();

Fiber* idle_fiber(Worker& w) {
  Fiber* f = w.idle;
  if (f) {
    w.idle = f->next;
    return f;
  }
  const unsigned index = w.fiber_count++;
  open_stack(w, index);
  f = &w.fibers[index];
  prepare_fiber(f, fiber_entry);
  return f;
}

// The running fiber cannot go on: run whoever can. With nobody left, the scheduler finds out whether that is an end or a
// deadlock.
}  // namespace

void switch_away(Worker& w, Fiber* self) {
  Fiber* next = w.ready.pop();
  if (!next && w.started < w.threads) next = idle_fiber(w);
  if (!next && w.async && land_waited_for(w)) next = w.ready.pop();
  if (next) {
    if (next != self) go(&self->stack_pointer, next);
    return;
  }
  current_identity = nullptr;
  switch_stack(&self->stack_pointer, w.scheduler_stack);
}

namespace {

void begin_thread(Worker& w, Fiber* self) {
  unsigned number = w.started++;
  if constexpr (kChecked) {
    number = w.order[number];
    const dim3& d = current_block.block_dim;
    self->thread = uint3{number % d.x, number / d.x % d.y, number / (d.x * d.y)};
  } else {
    self->thread = uint3{w.thread_x, w.thread_y, w.thread_z};
    if (++w.thread_x == current_block.block_dim.x) {
      w.thread_x = 0;
      if (++w.thread_y == current_block.block_dim.y) w.thread_y = 0, ++w.thread_z;
    }
  }
  self->number = number;
  self->lane = number & 31u;
  self->warp = &w.warps[number >> 5];
  if (self->copies) forget_copies(self);
  if (self->multiplies) forget_multiplies(self);
  hooks::thread_begins(w, self);
}

void release_barrier(Worker& w) {
  w.vote_result = w.vote_count;
  w.vote_count = 0;
  w.arrived = 0;
  w.naps = 0;
  w.ready.append(w.at_barrier);
  hooks::barrier_released(w);
}

void complete(Worker& w, Warp& warp, int index);

void end_thread(Worker& w, Fiber* self) {
  Warp& warp = *self->warp;
  if (self->multiplies) require_multiplies_done(self);
  warp.exited |= 1u << self->lane;
  hooks::thread_ends(w, self);
  --w.live;
  w.naps = 0;
  if (w.arrived && w.arrived == w.live) {
    hooks::barrier_without(w, self);
    release_barrier(w);
  }
  for (int i = 0; i < warp.pending;) {
    const Rendezvous& r = warp.rendezvous[i];
    if (((r.arrived | warp.exited) & r.mask) == r.mask)
      complete(w, warp, i);
    else
      ++i;
  }
}

void record_exception(Worker& w) {
  w.exception = std::current_exception();
  w.failed = true;
}

void fiber_entry() {
  for (;;) {
    Worker& w = *current_worker;
    Fiber* self = current_fiber();
    while (w.started < w.threads) {
      begin_thread(w, self);
      bool threw = false;
      try {
        w.launch->request->invoke(w.launch->request->kernel, w.launch->request->parameters);
      } catch (...) {
        record_exception(w);
        threw = true;
      }
      if (threw) {
        current_identity = nullptr;
        switch_stack(&self->stack_pointer, w.scheduler_stack);
      }
      end_thread(w, self);
    }
    self->next = w.idle;
    w.idle = self;
    switch_away(w, self);
  }
}

// Every lane gets its result; the waiting ones become ready before anybody else, because their data is warm.
void complete(Worker& w, Warp& warp, int index) {
  Rendezvous& r = warp.rendezvous[index];
  const unsigned lanes = r.arrived;
  auto fold = [&](auto combine) {
    bool first = true;
    uint64_t total = 0;
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
      const uint64_t v = warp.value[__builtin_ctz(rest)];
      total = first ? v : combine(total, v);
      first = false;
    }
    for (unsigned rest = lanes; rest; rest &= rest - 1) warp.result[__builtin_ctz(rest)] = total;
  };
  auto s = [](uint64_t v) { return static_cast<int32_t>(static_cast<uint32_t>(v)); };
  switch (r.op) {
    case WarpOp::sync:
      break;
    case WarpOp::shuffle:
      if (lanes == 0xffffffffu) {
        for (int l = 0; l < 32; ++l) warp.result[l] = warp.value[warp.source[l]];
      } else {
        // A lane that does not take part has no defined value: all ones is a NaN.
        for (unsigned rest = lanes; rest; rest &= rest - 1) {
          const int l = __builtin_ctz(rest);
          warp.result[l] = (lanes >> warp.source[l]) & 1u ? warp.value[warp.source[l]] : ~0ull;
        }
      }
      break;
    case WarpOp::ballot: {
      unsigned votes = 0;
      for (unsigned rest = lanes; rest; rest &= rest - 1)
        if (warp.value[__builtin_ctz(rest)]) votes |= rest & -rest;
      for (unsigned rest = lanes; rest; rest &= rest - 1) warp.result[__builtin_ctz(rest)] = votes;
      break;
    }
    case WarpOp::match_any:
      for (unsigned rest = lanes; rest; rest &= rest - 1) {
        const int l = __builtin_ctz(rest);
        unsigned same = 0;
        for (unsigned others = lanes; others; others &= others - 1)
          if (warp.value[__builtin_ctz(others)] == warp.value[l]) same |= others & -others;
        warp.result[l] = same;
      }
      break;
    case WarpOp::match_all: {
      bool equal = true;
      const uint64_t v = warp.value[__builtin_ctz(lanes)];
      for (unsigned rest = lanes; rest; rest &= rest - 1) equal = equal && warp.value[__builtin_ctz(rest)] == v;
      for (unsigned rest = lanes; rest; rest &= rest - 1) warp.result[__builtin_ctz(rest)] = equal ? lanes : 0;
      break;
    }
    case WarpOp::any:
      fold([](uint64_t a, uint64_t b) { return a | b; });
      break;
    case WarpOp::all:
      fold([](uint64_t a, uint64_t b) { return a & b; });
      break;
    case WarpOp::add:
      fold([](uint64_t a, uint64_t b) { return static_cast<uint64_t>(static_cast<uint32_t>(a + b)); });
      break;
    case WarpOp::min_signed:
      fold([s](uint64_t a, uint64_t b) { return s(a) < s(b) ? a : b; });
      break;
    case WarpOp::max_signed:
      fold([s](uint64_t a, uint64_t b) { return s(a) > s(b) ? a : b; });
      break;
    case WarpOp::min_unsigned:
      fold([](uint64_t a, uint64_t b) { return a < b ? a : b; });
      break;
    case WarpOp::max_unsigned:
      fold([](uint64_t a, uint64_t b) { return a > b ? a : b; });
      break;
    case WarpOp::bit_and:
      fold([](uint64_t a, uint64_t b) { return a & b; });
      break;
    case WarpOp::bit_or:
      fold([](uint64_t a, uint64_t b) { return a | b; });
      break;
    case WarpOp::bit_xor:
      fold([](uint64_t a, uint64_t b) { return a ^ b; });
      break;
    default:
      complete_tensor_op(static_cast<int>(r.op), lanes, warp.value);
      break;
  }
  hooks::warp_completed(w, warp, r);
  if (r.waiting.head) {
    r.waiting.tail->next = w.ready.head;
    if (!w.ready.head) w.ready.tail = r.waiting.tail;
    w.ready.head = r.waiting.head;
    r.waiting.head = r.waiting.tail = nullptr;
  }
  const int last = --warp.pending;
  if (index != last) {
    warp.rendezvous[index] = warp.rendezvous[last];
    warp.rendezvous[last].waiting.head = warp.rendezvous[last].waiting.tail = nullptr;
  }
}

void reset_fibers(Worker& w) {
  w.idle = nullptr;
  for (unsigned i = w.fiber_count; i-- > 0;) {
    if (!w.fibers[i].stack_low) continue;
    prepare_fiber(&w.fibers[i], fiber_entry);
    w.fibers[i].next = w.idle;
    w.idle = &w.fibers[i];
  }
}

}  // namespace

int block_barrier(BlockVote vote, int predicate, Site site) {
  Worker& w = *current_worker;
  Fiber* self = current_fiber();
  hooks::barrier_reached(w, self, site);
  // A vote counts what its kind asks about: non-zero predicates, or zero ones for `all`.
  w.vote_count += vote == BlockVote::all ? predicate == 0 : predicate != 0;
  if (++w.arrived == w.live) {
    release_barrier(w);
    hooks::barrier_passed(w, self);
  } else {
    self->wait = Wait::barrier;
    self->site = site;
    w.at_barrier.append(self);
    switch_away(w, self);
    self->wait = Wait::none;
    hooks::barrier_passed(w, self);
  }
  switch (vote) {
    case BlockVote::count:
      return w.vote_result;
    case BlockVote::all:
      return w.vote_result == 0;
    case BlockVote::any:
      return w.vote_result != 0;
    default:
      return 0;
  }
}

uint64_t warp_rendezvous(WarpOp op, unsigned mask, uint64_t value, unsigned source, Site site) {
  Worker& w = *current_worker;
  Fiber* self = current_fiber();
  Warp& warp = *self->warp;
  const unsigned lane = self->lane;
  if (!((mask >> lane) & 1u)) {
    self->site = site;
    fail("a warp operation's mask 0x%08x does not name the calling lane %u", mask, lane);
  }
  warp.value[lane] = value;
  warp.source[lane] = static_cast<uint8_t>(source & 31u);
  int index = 0;
  while (index < warp.pending && warp.rendezvous[index].mask != mask) ++index;
  Rendezvous& r = warp.rendezvous[index];
  if (index == warp.pending) {
    ++warp.pending;
    r.mask = mask;
    r.arrived = 0;
    r.op = op;
    r.site = site;
  } else if (r.op != op) {
    self->site = site;
    fail("lanes of one warp meet with mask 0x%08x in different warp operations", mask);
  }
  r.arrived |= 1u << lane;
  if (((r.arrived | warp.exited) & mask) == mask) {
    complete(w, warp, index);
  } else {
    self->wait = Wait::warp;
    self->site = site;
    r.waiting.append(self);
    switch_away(w, self);
    self->wait = Wait::none;
  }
  hooks::warp_passed(w, self);
  return warp.result[lane];
}

unsigned active_mask() { return 1u << current_fiber()->lane; }

// A thread that only waits makes no progress that could be seen, so time must tell.
void waited_too_long(Worker& w) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const double seconds = static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  if (w.naps == 0x1000u) w.nap_started = seconds;
  const char* text = getenv("WARPLOOM_EMULATOR_TIMEOUT");
  const double limit = text && atof(text) > 0 ? atof(text) : 60.0;
  if (seconds - w.nap_started > limit)
    fail(
        "waits in a loop for %g seconds while no thread of its block makes progress; blocks run one after another on each of "
        "%d "
        "workers, so that a block must not wait for a later one (WARPLOOM_EMULATOR_TIMEOUT sets the limit)",
        limit, worker_count());
}

void nap() {  // lets the others run: a thread that waits for another's store must not keep the worker
  Worker& w = *current_worker;
  Fiber* self = current_fiber();
  if ((++w.naps & 0xfffu) == 0) waited_too_long(w);
  w.ready.append(self);
  Fiber* next = w.started < w.threads ? idle_fiber(w) : w.ready.pop();
  if (next != self) go(&self->stack_pointer, next);
}

void trap(Site site) {
  current_fiber()->site = site;
  fail("__trap() was called");
}

// Nothing on this block's fibers runs again; the worker goes on where it entered the block.
void abandon(Worker& w) {
  w.failed = true;
  void* abandoned;
  current_identity = nullptr;
  switch_stack(&abandoned, w.scheduler_stack);
  __builtin_unreachable();
}

void fail(const char* format, ...) {
  Worker& w = *current_worker;
  Fiber* self = current_fiber();
  hooks::failed_at(w, self->site);
  const int used = hooks::describe_thread(w, self, w.failure, sizeof(w.failure));
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(w.failure + used, sizeof(w.failure) - static_cast<size_t>(used), format, arguments);
  va_end(arguments);
  abandon(w);
}

// The static arrays of a block stand one after another in the arena, in the order in which its threads first come by them.
void* shared_storage(const void* site, size_t bytes, size_t alignment, const char* name) {
  Worker& w = *current_worker;
  for (int i = 0; i < w.shared_sites; ++i)
    if (w.sites[i].site == site) return w.shared + w.sites[i].offset;
  if (alignment < 16) alignment = 16;
  w.static_bytes = ((w.static_bytes + alignment - 1) & ~(alignment - 1)) + bytes;
  if (w.static_bytes > kStaticShared)
    fail("static shared memory up to `%s` takes %zu bytes, the limit is %zu (use dynamic shared memory)", name, w.static_bytes,
         kStaticShared);
  if (w.static_bytes + w.launch->request->shared_bytes > kSharedPerBlock)
    fail("static and dynamic shared memory take %zu bytes together, the limit is %zu",
         w.static_bytes + w.launch->request->shared_bytes, kSharedPerBlock);
  if (w.shared_sites == kMaxSharedSites) fail("a kernel has more than %d shared declarations", kMaxSharedSites);
  const size_t offset = (w.static_top + alignment - 1) & ~(alignment - 1);
  w.sites[w.shared_sites++] = SharedSite{site, name, static_cast<uint32_t>(offset), static_cast<uint32_t>(bytes)};
  w.static_top = offset + bytes + hooks::kRedZone;
  memset(w.shared + offset, 0xff, bytes);  // NaN, -1: what nobody wrote must not look right by chance
  hooks::shared_opened(w, offset, bytes);
  return w.shared + offset;
}

void* dynamic_shared() {
  Worker& w = *current_worker;
#if defined(WARPLOOM_LAB)
  return w.shared + kDynamicOffset;  // declared, which is no fault; the first access is one
#endif
  if (w.launch->request->shared_bytes == 0)
    fail(
        "the kernel uses dynamic shared memory, but was launched with 0 bytes of it (launch()'s argument before the kernel's "
        "own)");
  return w.shared + kDynamicOffset;
}

void start_launch(Worker& w, Launch& launch) {
  w.launch = &launch;
  w.threads = launch.threads;
  w.failed = false;
  w.exception = nullptr;
  current_worker = &w;
  current_block.block_dim = launch.request->block;
  current_block.grid_dim = launch.request->grid;
  hooks::launch_begins(w);
}

void run_block(Worker& w, uint64_t block) {
  const dim3& grid = w.launch->request->grid;
  w.block = block;
  current_block.block = uint3{static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
                              static_cast<unsigned>(block / grid.x / grid.y)};
  w.started = w.arrived = w.naps = 0;
  w.live = w.threads;
  w.vote_count = 0;
  w.thread_x = w.thread_y = w.thread_z = 0;
  w.shared_sites = 0;
  w.static_bytes = w.static_top = 0;
  const unsigned warps = (w.threads + 31) / 32;
  for (unsigned i = 0; i < warps; ++i) w.warps[i].exited = 0, w.warps[i].pending = 0, w.warps[i].matrices = 0;
  if (w.threads & 31u) w.warps[warps - 1].exited = ~0u << (w.threads & 31u);
  hooks::block_begins(w);
  if (w.launch->request->shared_bytes) {
    memset(w.shared + kDynamicOffset, 0xff, w.launch->request->shared_bytes);
    hooks::shared_opened(w, kDynamicOffset, w.launch->request->shared_bytes);
  }
  Fiber* first = idle_fiber(w);
  go(&w.scheduler_stack, first);
  current_identity = nullptr;
  if (!w.failed && w.live) {  // nobody can run, somebody waits
    int used = snprintf(w.failure, sizeof(w.failure), "deadlock: %u of %u threads wait", w.live, w.threads);
    used += hooks::describe_waiting(w, w.failure + used, sizeof(w.failure) - static_cast<size_t>(used));
    w.failed = true;
  }
  if (!w.failed && w.async && copies_under_way(w)) {
    snprintf(w.failure, sizeof(w.failure),
             "all threads have returned, but a bulk copy into shared memory is under way: nobody waited for it");
    w.failed = true;
  }
  if (!w.failed && warpgroup_error(w, w.failure, sizeof(w.failure))) w.failed = true;
  if (w.async) forget_async(w);
  hooks::block_ends(w);
  if (w.failed) {
    w.ready = FiberList();
    w.at_barrier = FiberList();
    for (unsigned i = 0; i < warps; ++i)
      for (auto& r : w.warps[i].rendezvous) r.waiting = FiberList();
    reset_fibers(w);
  }
}

void reset_worker(Worker& w) { reset_fibers(w); }

}  // namespace emulator
}  // namespace warploom
