// device.cpp - device functions of the lab that need the runtime.
#include <assert.h>
#include <time.h>

#include "state.h"
// After it: these words belong to programs.
#include "device_functions.h"

namespace warploom {
namespace lab {

uint32_t shared_address(const void* data) {
  if (!is_shared(data)) emulator::fail("__cvta_generic_to_shared is given the address %p, which is not in shared memory", data);
  return static_cast<uint32_t>(static_cast<const char*>(data) - emulator::current_worker->shared);
}
void* shared_pointer(uint32_t address) { return emulator::current_worker->shared + address; }
bool is_shared(const void* data) {
  return emulator::current_identity &&
         static_cast<size_t>(static_cast<const char*>(data) - emulator::current_worker->shared) < emulator::kSharedArena;
}
bool is_global(const void* data) { return allocation_at(data) || symbol_kind(data); }

namespace ptx {
uint64_t from_dynamic(uint64_t descriptor) {
  const uint64_t start = (descriptor & 0x3fffu) << 4, dynamic = emulator::kDynamicOffset & 0x3ffffu;
  return (descriptor & ~uint64_t(0x3fff)) | ((start - dynamic) >> 4 & 0x3fffu);
}
void wgmma_refused(const char* why) { emulator::fail("%s", why); }
}  // namespace ptx

void failed_assertion(const char* expression, const char* file, int line, const char* function) {
  if (!emulator::current_identity) __assert_fail(expression, file, static_cast<unsigned>(line), function);
  emulator::current_fiber()->site = Site{file, line};
  emulator::fail("assertion `%s` failed", expression);
}

}  // namespace lab
}  // namespace warploom

long long clock64() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}
unsigned long long globaltimer() { return static_cast<unsigned long long>(clock64()); }
