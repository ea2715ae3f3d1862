// state.h - inside the lab's runtime: what the files of kernels/lab know of each other. Programs never see it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "../emulator/memory.h"
#if defined(WARPLOOM_EMULATOR_CHECKED)
#include "../emulator/checks.h"
#else
#include "unchecked.h"
#endif
#include "host_api.h"
#include "launch.h"

namespace warploom {
namespace lab {

using emulator::Site;

// ---- report.cpp: one line of JSON each, into the file that WARPLOOM_LAB_REPORT names; as text to stderr where it names none ----
class Line {
 public:
  explicit Line(const char* type) { put("type", type); }
  Line& put(const char* key, const std::string& value);
  Line& put(const char* key, const char* value) { return put(key, std::string(value)); }
  Line& put(const char* key, unsigned long long value);
  Line& raw(const char* key, const std::string& json);
  Line& put(const char* key, const Site& site);  // as {"file": ..., "line": ...}
  Line& triple(const char* key, unsigned long long x, unsigned long long y, unsigned long long z);
  Line& code(const char* key, uintptr_t pc);  // where in the program's code, counted as addr2line does
  void write();

 private:
  std::string text_ = "{";
  void key(const char* key);
};
// A mistake of the host's. `level`: "error" or "warning".
void report(const char* level, const char* code, const Site& site, const std::string& message);
std::string buffer_name(const Site& site);  // of an allocation: the reader of the report finds the variable on that line
int report_file();                          // a file descriptor
[[noreturn]] void stop();                   // the program ends here: what would follow could not be trusted

// ---- host_errors.cpp ----
// One call of the API: `fails` reports, and remembers the error for cudaGetLastError.
class Call {
 public:
  Call(const char* name, const Site& site);
  cudaError_t succeeds() const { return cudaSuccess; }
  cudaError_t misused(const char* code, cudaError_t error, const std::string& message) const;  // always a finding
  cudaError_t fails(cudaError_t error,
                    const std::string& message) const;  // a finding where the program does not look at the result
  const char* name;
  Site site;
  bool looked_at;
};
void remember_error(cudaError_t error);
bool given_up();  // after a kernel that could not go on: nothing works any more, as on a GPU

// ---- host_memory.cpp ----
enum class Memory { host, device, managed, pinned, symbol };
struct Allocation {
  uintptr_t low = 0, high = 0;
  Memory memory = Memory::device;
  Site site{};
  const char* call = "";
};
const Allocation* allocation_at(const void* data);
Memory memory_of(const void* data);
// Words for an address that belongs to memory that has been released; empty if it does not.
std::string released_at(uintptr_t address);
void report_leaks();
void everything_written();  // after a launch of which not all blocks ran: nobody knows what the others would have written

// ---- streams.cpp: what a real device might not have finished yet ----
uint32_t stream_number(cudaStream_t stream);  // 0: the default stream
void note_launch(uint64_t serial, cudaStream_t stream);
void note_pending_copy(cudaStream_t stream, const void* host, size_t bytes, bool host_is_written, const Site& site);
void all_done();                        // the host has waited for everything
void stream_done(cudaStream_t stream);  // for this one
bool finished(uint64_t launch_number);  // global_tag::launch_number
struct PendingCopy {
  uintptr_t low, high;
  bool host_is_written;
  uint32_t stream;
  uint64_t piece;  // of what was put on streams, in order
  Site site;
};
const PendingCopy* pending_copy_at(uintptr_t address, size_t bytes, bool host_writes);

// ---- launches.cpp ----
struct Totals {
  unsigned long long launches = 0, blocks = 0, blocks_run = 0, threads = 0;  // the latter two: of launches that are over
};
unsigned long long blocks_run();  // the running launch's too
extern Totals totals;
extern std::vector<std::string> kernel_names;
unsigned long long all_accesses();

// ---- grid.cpp ----
void open_grid(uint64_t blocks, bool cooperative);
void block_of_grid_ends(bool failed);

// ---- counted.cpp: of the counting build ----
void report_counts();

// ---- statics.cpp ----
void open_statics();  // once, before the first launch
const char* symbol_kind(const void* data);

}  // namespace lab
}  // namespace warploom
