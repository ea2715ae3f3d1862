// atomics.cpp - CUDA's atomics on host memory, sequentially consistent. In the checked build each is announced to the checks
// first.
#include "atomics_hooks.h"
#include "scheduler_hooks.h"

namespace warploom {
namespace emulator {
namespace {

// A thread that spins on an atomic must not keep others from running, who would end its waiting.
inline void take_turns() {
  if (current_identity && (++current_worker->atomics & 1023u) == 0) nap();
}

template <class U, class S>
U apply(AtomicOp op, U old, U operand, bool is_signed) {
  switch (op) {
    case AtomicOp::add:
      return old + operand;
    case AtomicOp::sub:
      return old - operand;
    case AtomicOp::exchange:
      return operand;
    case AtomicOp::min:
      return is_signed ? (static_cast<S>(old) < static_cast<S>(operand) ? old : operand) : (old < operand ? old : operand);
    case AtomicOp::max:
      return is_signed ? (static_cast<S>(old) > static_cast<S>(operand) ? old : operand) : (old > operand ? old : operand);
    case AtomicOp::bit_and:
      return old & operand;
    case AtomicOp::bit_or:
      return old | operand;
    case AtomicOp::bit_xor:
      return old ^ operand;
    case AtomicOp::inc:
      return old >= operand ? 0 : old + 1;
    case AtomicOp::dec:
      return old == 0 || old > operand ? operand : old - 1;
  }
  return old;
}

template <class U, class Next>
inline U update(U* address, Next next) {
  U old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &old, next(old), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
  }
  return old;
}

template <class U>
inline U compare_and_swap(U* address, U expected, U desired) {
  __atomic_compare_exchange_n(address, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return expected;
}

template <class U, class F>
inline F update_float(AtomicOp op, U* address, F operand) {
  return bits<F>(
      update(address, [&](U old) { return op == AtomicOp::exchange ? bits<U>(operand) : bits<U>(bits<F>(old) + operand); }));
}

}  // namespace

uint32_t atomic_u32(AtomicOp op, uint32_t* address, uint32_t operand, bool is_signed) {
  take_turns();
  hooks::atomic_access(address, 4, __builtin_return_address(0));
  return update(address, [&](uint32_t old) { return apply<uint32_t, int32_t>(op, old, operand, is_signed); });
}
uint64_t atomic_u64(AtomicOp op, uint64_t* address, uint64_t operand, bool is_signed) {
  take_turns();
  hooks::atomic_access(address, 8, __builtin_return_address(0));
  return update(address, [&](uint64_t old) { return apply<uint64_t, int64_t>(op, old, operand, is_signed); });
}
float atomic_f32(AtomicOp op, float* address, float operand) {
  take_turns();
  hooks::atomic_access(address, 4, __builtin_return_address(0));
  return update_float(op, reinterpret_cast<uint32_t*>(address), operand);
}
double atomic_f64(AtomicOp op, double* address, double operand) {
  take_turns();
  hooks::atomic_access(address, 8, __builtin_return_address(0));
  return update_float(op, reinterpret_cast<uint64_t*>(address), operand);
}
uint16_t atomic_cas_u16(uint16_t* address, uint16_t expected, uint16_t desired) {
  take_turns();
  hooks::atomic_access(address, 2, __builtin_return_address(0));
  return compare_and_swap(address, expected, desired);
}
uint32_t atomic_cas_u32(uint32_t* address, uint32_t expected, uint32_t desired) {
  take_turns();
  hooks::atomic_access(address, 4, __builtin_return_address(0));
  return compare_and_swap(address, expected, desired);
}
uint64_t atomic_cas_u64(uint64_t* address, uint64_t expected, uint64_t desired) {
  take_turns();
  hooks::atomic_access(address, 8, __builtin_return_address(0));
  return compare_and_swap(address, expected, desired);
}

void fence() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  hooks::fenced();
}

}  // namespace emulator
}  // namespace warploom
