// memory.cpp - device memory of the fast build: aligned heap memory, refused where the machine cannot hold it.
#include "memory.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace warploom {
namespace emulator {

int64_t physical_memory() {
  int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    FILE* f = fopen(path, "r");
    if (!f) continue;
    long long limit = 0;
    if (fscanf(f, "%lld", &limit) == 1 && limit > 0 && limit < bytes) bytes = limit;
    fclose(f);
  }
  return bytes;
}

#if !defined(WARPLOOM_EMULATOR_CHECKED)
void* memory_allocate(int64_t bytes, const std::string& what) {
  const int64_t limit = physical_memory();
  const size_t rounded = (static_cast<size_t>(bytes > 0 ? bytes : 1) + 255) & ~size_t(255);
  // Linux hands out more than there is and kills later: refuse what cannot be held.
  void* data = bytes < limit ? aligned_alloc(256, rounded) : nullptr;
  if (!data)
    throw OutOfMemoryError("out of memory on the emulated device: " + what + " needs " + std::to_string(bytes >> 20) +
                           " MiB of " + std::to_string(limit >> 20) + " MiB; use a smaller batch size");
  return data;
}
void memory_release(void* data) noexcept { free(data); }
void memory_touch(const void*, int64_t, bool, const char*) {}
void memory_copied(void*, const void*, int64_t) {}
#if defined(WARPLOOM_EMULATOR_COUNTING)
void memory_begin_call(const char* op, const std::vector<Region>&) { name_call(op); }
void memory_end_call() { name_call(""); }
#else
void memory_begin_call(const char*, const std::vector<Region>&) {}
void memory_end_call() {}
#endif
#endif

}  // namespace emulator
}  // namespace warploom
