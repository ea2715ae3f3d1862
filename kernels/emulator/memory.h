// memory.h - the emulated device's memory. The fast build takes it from the heap; the checked one (memory_checked.cpp) from an
// arena of its own, with red zones and a table of who owns what.
#pragma once

#include <string>
#include <vector>

#include "../device.h"

namespace warploom {
namespace emulator {

int64_t physical_memory();  // of the machine or of the container, whichever is less
void* memory_allocate(int64_t bytes, const std::string& what);
void memory_release(void* data) noexcept;
// The checked build throws if [data, data + bytes) is not inside one allocation; `write` marks it as written.
void memory_touch(const void* data, int64_t bytes, bool write, const char* action);
void memory_copied(void* to, const void* from, int64_t bytes);
#if defined(WARPLOOM_EMULATOR_COUNTING)
void name_call(const char* op);  // count_report.cpp: what this OS thread launches from now on belongs to it
#endif
void memory_begin_call(const char* op, const std::vector<Region>& regions);
void memory_end_call();

}  // namespace emulator
}  // namespace warploom
