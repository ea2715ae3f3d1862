// faults.cpp - the words of a fault: which buffer, how far off, who else, and the source line of a code address.
//
// Composed after the block has been given up, on the worker's own stack. Lines come from addr2line (binutils, which comes with
// the compiler); it is started only when there is something to report.
#if defined(WARPLOOM_EMULATOR_CHECKED)
#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "checks.h"

extern char** environ;

namespace warploom {
namespace emulator {

uintptr_t library_base = 0;
void set_library(uintptr_t low, uintptr_t high);
[[noreturn]] void abandon(Worker& w);

namespace {
std::string library_path;
void marker() {}
}  // namespace

void find_library() {
  if (library_base) return;
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(&marker), &info)) return;
  library_path = info.dli_fname;
  library_base = reinterpret_cast<uintptr_t>(info.dli_fbase);
  dl_iterate_phdr(
      [](dl_phdr_info* i, size_t, void*) {
        uintptr_t low = ~uintptr_t(0), high = 0;
        bool here = false;
        for (int k = 0; k < i->dlpi_phnum; ++k) {
          if (i->dlpi_phdr[k].p_type != PT_LOAD) continue;
          const uintptr_t start = i->dlpi_addr + i->dlpi_phdr[k].p_vaddr, end = start + i->dlpi_phdr[k].p_memsz;
          low = start < low ? start : low;
          high = end > high ? end : high;
          const uintptr_t self = reinterpret_cast<uintptr_t>(&marker);
          here = here || (self >= start && self < end);
        }
        if (here) set_library(low, high);
        return here ? 1 : 0;
      },
      nullptr);
}

void raise_fault(const Fault& fault) {
  Worker& w = *current_worker;
  hooks::describe_thread(w, current_fiber(), w.failure, sizeof(w.failure));
  w.checks->fault = fault;
  abandon(w);
}

void raise_text(uintptr_t pc, const char* format, ...) {
  Worker& w = *current_worker;
  const int used = hooks::describe_thread(w, current_fiber(), w.failure, sizeof(w.failure));
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(w.failure + used, sizeof(w.failure) - static_cast<size_t>(used), format, arguments);
  va_end(arguments);
  w.checks->fault = Fault();
  w.checks->fault.kind = Fault::text;
  w.checks->fault.pc = pc;
  abandon(w);
}

namespace {

std::string shortened(std::string path) {
  for (size_t up; (up = path.find("/../")) != std::string::npos && up > 0;) {
    const size_t folder = path.rfind('/', up - 1);
    path.erase(folder == std::string::npos ? 0 : folder + 1, up + 4 - (folder == std::string::npos ? 0 : folder + 1));
  }
  const size_t kernels = path.rfind("/kernels/");
  if (kernels != std::string::npos) return path.substr(kernels + 1);
  const size_t slash = path.rfind('/');
  const size_t before = slash == std::string::npos || slash == 0 ? std::string::npos : path.rfind('/', slash - 1);
  return before == std::string::npos ? path : path.substr(before + 1);
}

std::string run_addr2line(uintptr_t offset) {
  char address[32];
  snprintf(address, sizeof(address), "0x%zx", static_cast<size_t>(offset));
  const char* arguments[] = {"addr2line", "-C", "-f", "-i", "-e", library_path.c_str(), address, nullptr};
  int ends[2];
  if (pipe(ends) != 0) return "";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1, 0);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, "addr2line", &actions, nullptr, const_cast<char**>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string output;
  char buffer[1024];
  ssize_t n;
  while (!failed && (n = read(ends[0], buffer, sizeof(buffer))) > 0) output.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  if (!failed) waitpid(child, nullptr, 0);
  return output;
}

// "kernels/v1/conv.cu:12 (conv2d_forward_kernel)": the innermost frame that is a kernel's own code, not these headers'.
std::string source_line(uintptr_t pc) {
  if (!pc) return "";
  const uintptr_t offset = pc - library_base - 1;  // a return address: the call ends before it
  const std::string output = run_addr2line(offset);
  std::string best;
  for (size_t at = 0; at < output.size();) {
    size_t end = output.find('\n', at);
    if (end == std::string::npos) break;
    std::string function = output.substr(at, end - at);
    size_t end2 = output.find('\n', end + 1);
    if (end2 == std::string::npos) end2 = output.size();
    std::string line = output.substr(end + 1, end2 - end - 1);
    at = end2 + 1;
    if (line.compare(0, 2, "??") == 0 || line.compare(0, 2, ":?") == 0) continue;
    const size_t note = line.find(" (discriminator");
    if (note != std::string::npos) line.resize(note);
    const size_t parenthesis = function.find('(');
    if (parenthesis != std::string::npos) function.resize(parenthesis);
    const size_t space = function.rfind(' ');
    if (space != std::string::npos && function.find('<') == std::string::npos) function = function.substr(space + 1);
    if (function.compare(0, 10, "warploom::") == 0) function.erase(0, 10);
    line = shortened(line);
    const std::string text = line + " (" + function + ")";
    if (best.empty()) best = text;
    const bool own_header =
        (line.find("kernels/emulator/") != std::string::npos && line.find("/selftest/") == std::string::npos) ||
        line.find("kernels/common/tensor_core.cuh") != std::string::npos ||  // wrappers of one instruction
        line.find("kernels/common/async_copy.cuh") != std::string::npos;
    if (!own_header && line.find("/include/c++/") == std::string::npos) return text;
  }
  if (!best.empty()) return best;
  Dl_info info;
  char text[64];
  if (dladdr(reinterpret_cast<void*>(pc), &info) && info.dli_sname) {
    int status = 0;
    char* name = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    snprintf(text, sizeof(text), "+0x%zx", static_cast<size_t>(pc - reinterpret_cast<uintptr_t>(info.dli_saddr)));
    const std::string result = std::string(name ? name : info.dli_sname) + text;
    free(name);
    return result + " (no source line: addr2line of binutils is missing)";
  }
  snprintf(text, sizeof(text), "offset 0x%zx", static_cast<size_t>(offset));
  return text + std::string(" of ") + shortened(library_path) + " (no source line: addr2line of binutils is missing)";
}

std::string at(const Fault& f) {
  if (f.site.file) return " at " + shortened(f.site.file) + ":" + std::to_string(f.site.line);
  const std::string line = source_line(f.pc);
  return line.empty() ? "" : " at " + line;
}

std::string distance(uintptr_t address, uintptr_t low, uintptr_t high) {
  if (address < low) return std::to_string(low - address) + " bytes before the start of ";
  if (address >= high) return std::to_string(address - high) + " bytes past the end of ";
  return "across the end of ";
}

std::string sized(const std::string& name, uintptr_t low, uintptr_t high) {
  return name + " (" + std::to_string(high - low) + " bytes)";
}

// "16 bytes past the end of y (1024 bytes)", from the nearest buffer that the kernel may touch.
std::string near_buffer(uintptr_t address) {
  const bool call = arena.limit == kFirstAllocation;
  uint32_t best = 0;
  uintptr_t gap = ~uintptr_t(0);
  auto consider = [&](uint32_t id) {
    const uintptr_t d = address < arena.low[id]     ? arena.low[id] - address
                        : address >= arena.high[id] ? address - arena.high[id]
                                                    : 0;
    if (d < gap) gap = d, best = id;
  };
  if (call) {
    for (uint32_t id = kFirstRegion; id < arena.regions; ++id) consider(id);
  } else {
    for (const auto& a : allocations()) consider(a.second);
  }
  if (!best) return "no buffer is allocated";
  std::string text =
      distance(address, arena.low[best], arena.high[best]) + sized(segment_name(best), arena.low[best], arena.high[best]);
  if (call) text += ", the nearest buffer of " + operation() + ",";
  return text;
}

std::string buffer_at(uintptr_t address) {
  auto text = [&](uint32_t id) { return segment_name(id) + " + " + std::to_string(address - arena.low[id]) + " bytes"; };
  if (arena.limit == kFirstAllocation)
    for (uint32_t id = kFirstRegion; id < arena.regions; ++id)
      if (address >= arena.low[id] && address < arena.high[id]) return text(id);
  for (const auto& a : allocations())
    if (address >= arena.low[a.second] && address < arena.high[a.second]) return text(a.second);
  return "device memory";
}

std::string shared_at(const Worker& w, uintptr_t address) {
  const uintptr_t offset = address - w.checks->shared_base;
  if (offset >= kDynamicOffset) return "dynamic shared memory + " + std::to_string(offset - kDynamicOffset) + " bytes";
  for (int i = 0; i < w.shared_sites; ++i)
    if (offset >= w.sites[i].offset && offset < w.sites[i].offset + w.sites[i].bytes)
      return "shared " + std::string(w.sites[i].name) + " + " + std::to_string(offset - w.sites[i].offset) + " bytes";
  return "shared memory";
}

std::string near_shared(const Worker& w, uintptr_t address) {
  const uintptr_t offset = address - w.checks->shared_base;
  std::string best = "this block has no shared memory";
  uintptr_t gap = ~uintptr_t(0);
  auto consider = [&](uintptr_t low, uintptr_t high, const std::string& name) {
    const uintptr_t d = offset < low ? low - offset : offset >= high ? offset - high : 0;
    if (d < gap) gap = d, best = distance(offset, low, high) + sized(name, low, high);
  };
  for (int i = 0; i < w.shared_sites; ++i)
    consider(w.sites[i].offset, w.sites[i].offset + w.sites[i].bytes, "shared " + std::string(w.sites[i].name));
  if (w.launch->request->shared_bytes)
    consider(kDynamicOffset, kDynamicOffset + w.launch->request->shared_bytes, "dynamic shared memory");
  return best;
}

std::string thread_name(const Worker& w, unsigned number) {
  const dim3& d = w.launch->request->block;
  return "thread (" + std::to_string(number % d.x) + ", " + std::to_string(number / d.x % d.y) + ", " +
         std::to_string(number / (d.x * d.y)) + ")";
}

std::string other_party(const Worker& w, const Fault& f) {
  std::string text = f.other_write ? "a write by " : "a read by ";
  if (!f.same_block) {
    const dim3& g = w.launch->request->grid;
    text += "block (" + std::to_string(f.other_block % g.x) + ", " + std::to_string(f.other_block / g.x % g.y) + ", " +
            std::to_string(f.other_block / g.x / g.y) + "), ";
  }
  text += thread_name(w, f.other_thread) + (f.other_many ? " and others" : "");
  const std::string line = source_line(f.other_pc + library_base);
  return line.empty() ? text : text + " at " + line;
}

}  // namespace

std::string fault_location(Worker& w) {
  const Fault f = w.checks->fault;
  w.checks->fault = Fault();
  const std::string verb = f.atomic ? "updates " : f.write ? "writes " : "reads ";
  const std::string bytes = std::to_string(f.bytes) + (f.bytes == 1 ? " byte" : " bytes");
  char address[32];
  snprintf(address, sizeof(address), "0x%zx", static_cast<size_t>(f.address));
  switch (f.kind) {
    case Fault::none:
      return "";
    case Fault::text:
      return at(f);
    case Fault::bounds:
      return verb + bytes + " out of bounds: " + near_buffer(f.address) + at(f);
    case Fault::read_only:
      return verb + bytes + " to " + buffer_at(f.address) + ", which " + operation() + " may only read" + at(f);
    case Fault::unwritten:
      return verb + bytes + " that nothing has written: " + buffer_at(f.address) + at(f);
    case Fault::misaligned: {
      const bool shared = f.address - w.checks->shared_base < kSharedArena;
      return verb + bytes + " at an address that is not a multiple of " + std::to_string(f.bytes) + ": " +
             (shared ? shared_at(w, f.address) : buffer_at(f.address)) + at(f);
    }
    case Fault::shared_bounds:
      return verb + bytes + " out of bounds: " + near_shared(w, f.address) + at(f);
    case Fault::shared_unwritten:
      return verb + bytes + " that no thread of this block has written (a cp.async writes when it has been waited for): " +
             shared_at(w, f.address) + at(f);
    case Fault::shared_race:
      return "race on " + shared_at(w, f.address) + ": " + verb + bytes + at(f) + "; " + other_party(w, f) +
             " is not separated from it by a barrier";
    case Fault::conflict:
      return (f.same_block ? "race on " : "conflict on ") + buffer_at(f.address) + ": " + verb + bytes + at(f) + "; " +
             other_party(w, f) +
             (f.same_block ? " is not separated from it by a barrier"
                           : " in the same launch, without an order between the blocks");
    case Fault::host:
      if (f.address < 4096) return verb + bytes + " at a null pointer (" + address + ")" + at(f);
      if (f.address - reinterpret_cast<uintptr_t>(w.stacks) < kMaxThreads * kStackBytes)
        return verb + bytes + " of another thread's local memory" + at(f);
      return verb + bytes + " of host memory (" + address + "): kernels reach only memory from Device::allocate" + at(f);
    case Fault::stack:
      return "local variables take more than the " + std::to_string(kStackBytes >> 10) +
             " KiB that the emulated device gives a thread" + at(f);
    case Fault::index:
      return "index " + std::to_string(static_cast<long>(f.index_value)) + " is outside of an array of type " + f.type + at(f);
  }
  return "";
}

}  // namespace emulator
}  // namespace warploom
#endif
