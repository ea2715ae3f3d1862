// fibers.cpp - stacks for the threads of a block, and the switch between them.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "engine.h"

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

namespace warploom {
namespace emulator {

// Saves what the calling convention lets a function keep, changes the stack, restores. Floating-point control words are not
// switched: kernels do not change them.
#if defined(__x86_64__)
extern "C" void wl_emulator_switch(void** save, void* to) __attribute__((visibility("hidden")));
asm(R"(
  .text
  .p2align 4
  .globl wl_emulator_switch
  .hidden wl_emulator_switch
  .type wl_emulator_switch, @function
wl_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size wl_emulator_switch, . - wl_emulator_switch
)");
void switch_stack(void** save, void* to) { wl_emulator_switch(save, to); }

void prepare_fiber(Fiber* fiber, void (*entry)()) {
  // Tops are staggered: equal addresses modulo 4 KiB would share the same few cache sets.
  uintptr_t top = reinterpret_cast<uintptr_t>(fiber->stack_low) + kStackBytes - fiber->stack_index * size_t(35 * 64) % 4096;
  top &= ~uintptr_t(15);
  void** frame = reinterpret_cast<void**>(top);
  *--frame = nullptr;  // entry's return address: it has none, and finds the stack aligned as after a call
  *--frame = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--frame = nullptr;
  fiber->stack_pointer = frame;
}
#elif defined(__aarch64__)
extern "C" void wl_emulator_switch(void** save, void* to) __attribute__((visibility("hidden")));
asm(R"(
  .text
  .p2align 4
  .globl wl_emulator_switch
  .hidden wl_emulator_switch
  .type wl_emulator_switch, %function
wl_emulator_switch:
  stp x19, x20, [sp, #-160]!
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  ldp x19, x20, [sp], #160
  ret
  .size wl_emulator_switch, . - wl_emulator_switch
)");
void switch_stack(void** save, void* to) { wl_emulator_switch(save, to); }

void prepare_fiber(Fiber* fiber, void (*entry)()) {
  uintptr_t top = reinterpret_cast<uintptr_t>(fiber->stack_low) + kStackBytes - fiber->stack_index * size_t(35 * 64) % 4096;
  top &= ~uintptr_t(15);
  void** frame = reinterpret_cast<void**>(top) - 20;
  for (int i = 0; i < 20; ++i) frame[i] = nullptr;
  frame[11] = reinterpret_cast<void*>(entry);  // x30
  fiber->stack_pointer = frame;
}
#else  // any other processor: slow (a system call a switch), but it runs
void switch_stack(void** save, void* to) {
  ucontext_t here;
  *save = &here;
  swapcontext(&here, static_cast<ucontext_t*>(to));
}

void prepare_fiber(Fiber* fiber, void (*entry)()) {
  ucontext_t* context =
      reinterpret_cast<ucontext_t*>(fiber->stack_low + kStackBytes - ((sizeof(ucontext_t) + 127) & ~size_t(63)));
  getcontext(context);
  context->uc_stack.ss_sp = fiber->stack_low;
  context->uc_stack.ss_size = static_cast<size_t>(reinterpret_cast<char*>(context) - fiber->stack_low) & ~size_t(63);
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  fiber->stack_pointer = context;
}
#endif

// In the fast build the lowest page of a stack is a guard. The checked build looks at the stack pointer wherever a function begins, which
// may then be in the next stack already: nothing of that block runs again, so it does no harm, and below the first stack there is room.
constexpr size_t kRoomBelow = 4 * kStackBytes;

void make_stacks(Worker& worker) {
  const size_t bytes = kRoomBelow + kMaxThreads * kStackBytes;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw OutOfMemoryError("the emulated device cannot reserve stacks for its threads; set WARPLOOM_THREADS lower");
  madvise(memory, bytes, MADV_NOHUGEPAGE);  // a huge page per stack would cost 2 MiB each
  worker.stacks = static_cast<char*>(memory) + kRoomBelow;
}

void open_stack(Worker& worker, unsigned index) {
  Fiber& fiber = worker.fibers[index];
  fiber.stack_low = worker.stacks + index * kStackBytes;
  fiber.stack_index = index;
  if (!kChecked && mprotect(fiber.stack_low, static_cast<size_t>(sysconf(_SC_PAGESIZE)), PROT_NONE) != 0)
    fail("no guard page for a thread's stack (too many memory mappings): set WARPLOOM_THREADS lower, or raise vm.max_map_count");
}

}  // namespace emulator
}  // namespace warploom
