// counting.cpp - writes down what each thread of a counted block does: see counting.h.
//
// Accesses to a thread's own stack (registers on a GPU), to kernel parameters and to constant tables are left out.
#if defined(WARPLOOM_EMULATOR_COUNTING)
#include "counting.h"

#include <cstdlib>

#include "async_proxy_state.h"
#include "atomics_hooks.h"
#include "memory.h"
#include "source_lines.h"
#include "tensor_cores.h"

namespace warploom {
namespace emulator {

namespace {
std::atomic<size_t> grown_bytes{0};
size_t most_bytes = 0;  // of the machine's memory, for what threads have done since their warps last met
}  // namespace

void* grow(void* data, size_t before, size_t bytes) {
  void* const grown = grown_bytes.fetch_add(bytes - before) + bytes - before <= most_bytes ? realloc(data, bytes) : nullptr;
  if (grown) return grown;
  grown_bytes.fetch_sub(bytes - before);
  fail(
      "does more between two barriers than the counting emulated device can keep in %zu MiB until the lanes of its warp meet: "
      "choose "
      "a smaller batch or problem",
      most_bytes >> 20);
}

namespace {

enum class Kind { read, write, atomic };

struct Caller {
  const void* pc;
  const void* frame;  // a fixed distance from the caller's stack pointer; null: of the function that is on top anyway
};

inline void write_down(Lane& lane, uintptr_t pc, Mark mark) {
  const uint32_t code = static_cast<uint32_t>(pc - library_place.base) << 2 | static_cast<uint32_t>(mark);
  lane.codes.push(code);
  lane.hash = (lane.hash ^ code) * 0x9e3779b97f4a7c15ull;
  lane.hash ^= lane.hash >> 32;
}

// Which function: stacks grow downwards. A frame below the top one is a call, one above it a return.
__attribute__((noinline)) void change_frame(Lane& lane, uintptr_t frame) {
  while (lane.frames > 0 && frame > lane.stack[lane.frames - 1]) {
    --lane.frames;
    write_down(lane, library_place.base, Mark::leave);
  }
  if (lane.frames > 0 && frame == lane.stack[lane.frames - 1]) return;
  if (lane.frames == kMaxFrames) fail("calls functions %d deep, more than the counting emulated device follows", kMaxFrames);
  lane.stack[lane.frames++] = frame;
  write_down(lane, library_place.base, Mark::enter);
}

inline __attribute__((always_inline)) void come_to(Lane& lane, const void* frame) {
  const uintptr_t f = reinterpret_cast<uintptr_t>(frame);
  if (__builtin_expect(lane.frames == 0 || f != lane.stack[lane.frames - 1], 0)) change_frame(lane, f);
}

inline void write_access(Lane& lane, uint64_t access) {
  lane.accesses.push(access);
  lane.hash ^= Access::kind(access) * 0xff51afd7ed558ccdull;
}

template <class T>
inline void swap(Grown<T>& a, Grown<T>& b) {
  const Grown<T> c = a;
  a = b;
  b = c;
}

inline bool left_out(const CountState& c, uintptr_t address) {
#if defined(WARPLOOM_LAB)
  if (is_device_variable(address)) return false;
#endif
  return address - c.stacks_low < c.stacks_bytes || address - library_place.low < library_place.high - library_place.low ||
         address - c.parameters < c.parameter_bytes;
}

template <Action action>
inline void access_lane(Lane& lane, uintptr_t address, size_t bytes, Caller caller) {
  CountState& c = *lane.state;
  const bool shared = address - c.shared_base < kSharedArena;
  if (!shared && left_out(c, address)) return;
  if (caller.frame) come_to(lane, caller.frame);
  for (size_t done = 0; done < bytes; done += Access::kLongest) {
    const size_t part = bytes - done < Access::kLongest ? bytes - done : Access::kLongest;
    write_down(lane, reinterpret_cast<uintptr_t>(caller.pc), Mark::access);
    write_access(lane, Access::pack(address + done, part, action, shared));
    lane.hash ^= part;
  }
}

template <Kind kind, bool aligned>
inline __attribute__((always_inline)) void access(const void* pointer, size_t bytes, Caller caller) {
  Fiber* f = current_fiber();
  if (!f || !f->counted) return;
  constexpr Action action = kind == Kind::read ? Action::load : kind == Kind::write ? Action::store : Action::atomic;
  access_lane<action>(*f->counted, reinterpret_cast<uintptr_t>(pointer), bytes, caller);
}

inline bool time_for_others(const Fiber* f) { return f->counted && (f->counted->codes.size & 63u) == 0; }

}  // namespace

void prepare_checks(Worker& w) {
  find_library();
  most_bytes = static_cast<size_t>(physical_memory()) / 4;
  auto* c = new CountState;
  c->worker = &w;
  c->shared_base = reinterpret_cast<uintptr_t>(w.shared);
  c->stacks_low = reinterpret_cast<uintptr_t>(w.stacks);
  c->stacks_bytes = kMaxThreads * kStackBytes;
  for (Lane& lane : c->lanes) lane.state = c;
  make_lockstep(*c);
  w.counts = c;
}

namespace hooks {

bool block_wanted(Worker& w, uint64_t block) {
  CountState& c = *w.counts;
  c.counting = w.launch->counted && block_counted(block, w.launch->blocks);
#if defined(WARPLOOM_LAB)
  return block_affordable(block) || c.counting;
#endif
  return c.counting || !count_orders.on || !count_orders.skip_rest;
}

void launch_begins(Worker& w) {
  CountState& c = *w.counts;
  c.parameters = reinterpret_cast<uintptr_t>(w.launch->request->parameters);
  c.parameter_bytes = w.launch->request->parameter_bytes;
  if (c.totals.blocks_counted) forget_counts(c);  // of a launch that was given up
}

void launch_ends(Worker& w) { add_counts(w); }

void block_begins(Worker& w) {
  CountState& c = *w.counts;
  if (!c.counting) return;
  ++c.totals.blocks_counted;
  for (unsigned i = 0; i < w.threads; ++i) {
    Lane& lane = c.lanes[i];
    lane.codes.size = lane.accesses.size = 0;
    lane.hash = 0;
    lane.frames = lane.at_frames = 0;
  }
}

void thread_begins(Worker& w, Fiber* self) { self->counted = w.counts->counting ? &w.counts->lanes[self->number] : nullptr; }

void thread_ends(Worker& w, Fiber* self) {
  CountState& c = *w.counts;
  if (!c.counting) return;
  if (w.static_bytes > c.totals.static_shared) c.totals.static_shared = w.static_bytes;
  if (self->warp->exited != 0xffffffffu) return;
  const unsigned warp = self->number >> 5, next = warp + 1 < (w.threads + 31) / 32 ? warp + 1 : 0;
  replay_warp(c, warp);
  // The warps of a kernel without barriers run one after another: one warp's memory serves them all.
  for (unsigned l = 0; l < 32 && next != warp; ++l) {
    Lane &mine = c.lanes[warp * 32 + l], &other = c.lanes[next * 32 + l];
    if (other.codes.capacity < mine.codes.capacity && !other.codes.size) swap(mine.codes, other.codes);
    if (other.accesses.capacity < mine.accesses.capacity && !other.accesses.size) swap(mine.accesses, other.accesses);
  }
}

void barrier_reached(Worker&, Fiber*, Site) {}

void barrier_released(Worker& w) {
  CountState& c = *w.counts;
  if (!c.counting) return;
  ++c.totals.barriers;
  for (unsigned i = 0; i < (w.threads + 31) / 32; ++i) replay_warp(c, i);
}

void warp_completed(Worker& w, Warp& warp, const Rendezvous& r) {
  CountState& c = *w.counts;
  if (!c.counting) return;
  const int op = static_cast<int>(r.op);
  if (r.op == WarpOp::sync)
    ++c.totals.warp_syncs;
  else if (op == static_cast<int>(TensorOp::warpgroup_wait))
    c.totals.warpgroup_multiplies += due_multiplies(warp), c.totals.warpgroup_flops += due_flops(warp);
  else if (op == static_cast<int>(TensorOp::load_matrices) || op == static_cast<int>(TensorOp::load_matrices_transposed))
    ++c.totals.matrix_loads;
  else if (op >= static_cast<int>(TensorOp::mma_m16n8k16_bf16) && op <= static_cast<int>(TensorOp::mma_m16n8k8_tf32))
    ++c.totals.matrix_multiplies[op - static_cast<int>(TensorOp::mma_m16n8k16_bf16)];
  else if (r.op == WarpOp::shuffle)
    ++c.totals.shuffles;
  else
    ++c.totals.votes;
  if ((r.arrived | warp.exited) == 0xffffffffu) replay_warp(c, static_cast<unsigned>(&warp - w.warps));
}

void atomic_access(const void* address, size_t bytes, const void* caller) {
  access<Kind::atomic, true>(address, bytes, Caller{caller, nullptr});
}

void copy_issued(void* shared, const void* global, size_t bytes, size_t source_bytes, const void* caller) {
  Fiber* f = current_fiber();
  if (!f || !f->counted) return;
  Lane& lane = *f->counted;
  write_down(lane, reinterpret_cast<uintptr_t>(caller), Mark::access);
  write_access(lane, Access::pack(reinterpret_cast<uintptr_t>(global), source_bytes, Action::copy, false));
  write_access(lane, Access::pack(reinterpret_cast<uintptr_t>(shared), bytes, Action::copy, true));
}

void bulk_issued(Worker&, int, void* shared, const void* global, size_t bytes, size_t source_bytes, const void* caller) {
  for (size_t k = 0; k < bytes; k += Access::kLongest) {
    const size_t part = bytes - k < Access::kLongest ? bytes - k : Access::kLongest;
    const size_t inside = source_bytes < k ? 0 : source_bytes - k < part ? source_bytes - k : part;
    copy_issued(static_cast<char*>(shared) + k, static_cast<const char*>(global) + k, part, inside, caller);
  }
}

}  // namespace hooks
}  // namespace emulator
}  // namespace warploom

#define WL_CALLER \
  warploom::emulator::Caller { __builtin_return_address(0), __builtin_frame_address(0) }
#include "callbacks.h"

WL_CALLBACK __tsan_func_entry(void*) {}
WL_CALLBACK __sanitizer_cov_trace_pc() {
  using namespace warploom::emulator;
  Fiber* f = current_fiber();
  if (!f || !f->counted) return;
  Lane& lane = *f->counted;
  come_to(lane, __builtin_frame_address(0));
  write_down(lane, reinterpret_cast<uintptr_t>(__builtin_return_address(0)), Mark::block);
}
#endif
