// async_barriers.cpp - mbarrier: a barrier in shared memory that counts arrivals and bytes of bulk copies, phase after phase.
//
// PTX ISA, "Parallel synchronization and communication instructions: mbarrier". A phase ends when all arrivals have come and all bytes
// that were expected have landed; the barrier then starts the next by itself. Waiting names a parity: it is over once the phase of
// that parity is, so at the start a wait for parity 1 passes and one for parity 0 does not.
#include <cstdlib>
#include <new>

#include "async_proxy_state.h"
#include "scheduler_hooks.h"

namespace warploom {
namespace emulator {

constexpr uint64_t kBarrierMark = 0x6d62617272ull;  // the word's upper bits; no float and no index by chance

AsyncBarrierState& barrier_at(void* barrier, Site site) {
  Worker& w = *current_worker;
  current_fiber()->site = site;
  require_shared(barrier, "an mbarrier operation");
  const uint64_t word = reinterpret_cast<uintptr_t>(barrier) % 8 == 0 ? *static_cast<const uint64_t*>(barrier) : 0;
  const uint64_t index = word & 0xffffu;
  if (word >> 16 != kBarrierMark || !w.async || index >= static_cast<uint64_t>(w.async->count) ||
      w.async->barriers[index].word != barrier)
    fail("uses an mbarrier that nobody has initialised, or that a store has overwritten");
  return w.async->barriers[index];
}

void barrier_init(void* barrier, uint32_t arrivals, Site site) {
  Worker& w = *current_worker;
  Fiber* self = current_fiber();
  self->site = site;
  require_shared(barrier, "mbarrier.init");
  if (reinterpret_cast<uintptr_t>(barrier) % 8) fail("initialises an mbarrier at an address that is not a multiple of 8");
  if (arrivals < 1 || arrivals > (1u << 20) - 1)
    fail("initialises an mbarrier with %u arrivals; 1 to 1048575 are possible", arrivals);
  if (!w.async) {
    void* memory = calloc(1, sizeof(AsyncState));
    if (!memory) fail("the emulated device has no memory left for mbarriers");
    w.async = new (memory) AsyncState;
  }
  AsyncState& s = *w.async;
  int index = 0;
  while (index < s.count && s.barriers[index].word != barrier) ++index;
  if (index == kMaxBarriers) fail("a block has more than %d mbarriers", kMaxBarriers);
  AsyncBarrierState& b = s.barriers[index];
  if (index == s.count)
    ++s.count;
  else if (b.waiting.head || b.first)
    fail("initialises an mbarrier that is in use");
  hooks::async_barrier_opened(w, index, barrier, __builtin_return_address(0));
  b = AsyncBarrierState();
  b.word = static_cast<char*>(barrier);
  b.expected = b.pending = arrivals;
  b.site = site;
  *static_cast<uint64_t*>(barrier) = kBarrierMark << 16 | static_cast<uint64_t>(index);
  self->site = Site{};
}

void fence_async_proxy() {
  if (AsyncState* s = current_worker->async)
    for (int i = 0; i < s->count; ++i) s->barriers[i].published = true;
  hooks::async_proxy_fenced(*current_worker, current_fiber());
}

void complete_if_due(Worker& w, AsyncBarrierState& b) {
  if (b.pending || b.bytes) return;
  ++b.phase;
  b.pending = b.expected;
  w.naps = 0;
  hooks::async_barrier_completed(w, static_cast<int>(&b - w.async->barriers));
  w.ready.append(b.waiting);
}

void barrier_arrive(void* barrier, uint32_t bytes, Site site) {
  Worker& w = *current_worker;
  Fiber* self = current_fiber();
  AsyncBarrierState& b = barrier_at(barrier, site);
  if (b.pending == 0) fail("arrives at an mbarrier whose %u arrivals of this phase have all come", b.expected);
  hooks::async_barrier_arrived(w, self, static_cast<int>(&b - w.async->barriers));
  b.bytes += bytes;
  --b.pending;
  complete_if_due(w, b);
  self->site = Site{};
}

void barrier_wait(void* barrier, uint32_t parity, Site site) {
  Worker& w = *current_worker;
  Fiber* self = current_fiber();
  AsyncBarrierState& b = barrier_at(barrier, site);
  if (parity > 1) fail("waits for parity %u of an mbarrier; phases have parity 0 or 1", parity);
  if ((b.phase & 1u) == parity) land_copies(w, b);
  if ((b.phase & 1u) == parity) {
    self->wait = Wait::async_barrier;
    b.waiting.append(self);
    switch_away(w, self);
    self->wait = Wait::none;
  }
  hooks::async_barrier_passed(w, self, static_cast<int>(&b - w.async->barriers));
  self->site = Site{};
}

bool land_waited_for(Worker& w) {
  AsyncState& s = *w.async;
  for (int i = 0; i < s.count; ++i)
    if (s.barriers[i].waiting.head && land_copies(w, s.barriers[i]) && w.ready.head) return true;
  return false;
}

bool copies_under_way(const Worker& w) { return w.async->under_way != 0; }

void forget_async(Worker& w) {
  AsyncState& s = *w.async;
  for (int i = 0; i < s.count; ++i) {
    AsyncBarrierState& b = s.barriers[i];
    if (b.first) b.last->next = s.spare, s.spare = b.first;
    b = AsyncBarrierState();
  }
  s.count = 0;
  s.under_way = 0;
}

int describe_async_waiting(const Worker& w, const char* (*place)(const Site&, int*), char* text, size_t size) {
  size_t used = 0;
  auto put = [&](int n) {
    used = n < 0 ? used : used + static_cast<size_t>(n) < size ? used + static_cast<size_t>(n) : size - 1;
  };
  for (int i = 0, shown = 0; w.async && i < w.async->count && shown < 4; ++i) {
    const AsyncBarrierState& b = w.async->barriers[i];
    if (!b.waiting.head) continue;
    ++shown;
    int threads = 0, line = 0;
    for (const Fiber* f = b.waiting.head; f; f = f->next) ++threads;
    const char* file = place(b.waiting.head->site, &line);
    put(snprintf(text + used, size - used, "; %d at an mbarrier", threads));
    if (file) put(snprintf(text + used, size - used, " at %s:%d", file, line));
    put(snprintf(text + used, size - used, " whose phase %u lacks %u of %u arrivals and %lld bytes", b.phase, b.pending,
                 b.expected, static_cast<long long>(b.bytes)));
  }
  return static_cast<int>(used);
}

}  // namespace emulator
}  // namespace warploom
