// crashes.cpp - a signal that ends the program: where, and from where that code was called. Written without memory from malloc, which may be
// what is broken; the signal then does what it always does.
#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "../emulator/source_lines.h"
#include "state.h"

namespace warploom {
namespace lab {
namespace {

uintptr_t counter_of(const void* context) {
#if defined(__x86_64__)
  return static_cast<uintptr_t>(static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return static_cast<uintptr_t>(static_cast<const ucontext_t*>(context)->uc_mcontext.pc);
#else
  (void)context;
  return 0;
#endif
}

struct Text {  // of a fixed size: what does not fit is left out
  char bytes[4096];
  size_t size = 0;
  template <class... Values>
  void add(const char* format, Values... values) {
    const int n = snprintf(bytes + size, sizeof(bytes) - size, format, values...);
    size = n < 0 ? size : std::min(size + static_cast<size_t>(n), sizeof(bytes) - 1);
  }
};

void crashed(int signal, siginfo_t*, void* context) {
  const uintptr_t base = emulator::library_place.base, at = counter_of(context);
  Text text;
  text.add("{\"type\": \"crash\", \"pcs\": [");
  // The handler's own frames are the first. A fiber's stack has no end that an unwinder knows.
  void* frames[16];
  const int count = emulator::current_identity ? 0 : backtrace(frames, 16);
  bool found = false;
  for (int i = 0; i < count; ++i) {  // libraries' too, whose places nobody knows
    const uintptr_t pc = reinterpret_cast<uintptr_t>(frames[i]);
    if (found)
      text.add(", %llu", static_cast<unsigned long long>(pc - base - 1));  // of a caller: behind the call
    else if (pc == at)
      text.add("%llu", static_cast<unsigned long long>(pc - base)), found = true;
  }
  if (!found) text.add("%llu", static_cast<unsigned long long>(at - base));
  text.add("]}\n{\"type\": \"summary\", \"launches\": %llu, \"blocks\": %llu, \"blocks_run\": %llu, \"threads\": %llu, ",
           totals.launches, totals.blocks, blocks_run(), totals.threads);
  text.add("\"accesses\": %llu, \"kernels\": \"", all_accesses());
  for (size_t i = 0; i < kernel_names.size(); ++i) text.add("%s%s", i ? "\\n" : "", kernel_names[i].c_str());
  text.add("\"}\n");
  if (write(report_file(), text.bytes, text.size) < 0) _exit(128 + signal);
  raise(signal);
}

struct Watch {
  Watch() {
    constexpr size_t kStack = 256 * 1024;
    void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t own = {};
    own.ss_sp = stack;
    own.ss_size = kStack;
    if (stack == MAP_FAILED || sigaltstack(&own, nullptr)) return;  // an overflow of main()'s stack leaves room nowhere else
    void* frames[1];
    backtrace(frames, 1);  // loads what it needs
    report_file();
    emulator::find_library();
    struct sigaction action = {};
    action.sa_sigaction = crashed;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | static_cast<int>(SA_RESETHAND);
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigaction(signal, &action, nullptr);
  }
} watch;

}  // namespace
}  // namespace lab
}  // namespace warploom
