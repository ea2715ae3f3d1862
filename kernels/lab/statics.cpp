// statics.cpp - `__device__` and `__constant__` variables: the rewriter puts them into sections of their own, which have a shadow like the
// device's memory has.
#include <sys/mman.h>

#include "state.h"

extern "C" {
extern char __start_wl_device[] __attribute__((weak, visibility("hidden")));
extern char __stop_wl_device[] __attribute__((weak, visibility("hidden")));
extern char __start_wl_constant[] __attribute__((weak, visibility("hidden")));
extern char __stop_wl_constant[] __attribute__((weak, visibility("hidden")));
}

namespace warploom {
namespace emulator {
Statics statics, constants;
}

namespace lab {

void open_statics() {
  using namespace emulator;
  if (__start_wl_constant) {
    constants.base = reinterpret_cast<uintptr_t>(__start_wl_constant);
    constants.size = static_cast<size_t>(__stop_wl_constant - __start_wl_constant);
  }
#if !defined(WARPLOOM_EMULATOR_CHECKED)
  if (__start_wl_device) {
    statics.base = reinterpret_cast<uintptr_t>(__start_wl_device);
    statics.size = static_cast<size_t>(__stop_wl_device - __start_wl_device);
  }
#else
  if (!__start_wl_device || statics.cells) return;
  const uintptr_t base = reinterpret_cast<uintptr_t>(__start_wl_device) & ~uintptr_t(15);
  const size_t size = reinterpret_cast<uintptr_t>(__stop_wl_device) - base, words = size / 4 + 4;
  void* cells = mmap(nullptr, words * sizeof(Cell), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  void* written = mmap(nullptr, words, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (cells == MAP_FAILED || written == MAP_FAILED) return;
  memset(written, 0xf, words);  // they begin as zeros, which is a value
  statics.cells = static_cast<Cell*>(cells);
  statics.written = static_cast<uint8_t*>(written);
  statics.base = base;
  statics.size = size;
#endif
}

const char* symbol_kind(const void* data) {
  const uintptr_t a = reinterpret_cast<uintptr_t>(data);
  if (a - emulator::statics.base < emulator::statics.size) return "__device__";
  if (a - emulator::constants.base < emulator::constants.size) return "__constant__";
  return nullptr;
}

}  // namespace lab
}  // namespace warploom
