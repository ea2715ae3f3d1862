// faults.cpp - the words of a fault: which buffer, how far off, who else, and where in the source. Composed after the block has been
// given up, on the worker's own stack.
#if defined(WARPLOOM_EMULATOR_CHECKED)
#include <cstdio>

#include "checks.h"
#include "source_lines.h"

namespace warploom {
namespace emulator {

void raise_fault(const Fault& fault) {
  Worker& w = *current_worker;
  hooks::describe_thread(w, current_fiber(), w.failure, sizeof(w.failure));
  w.checks->fault = fault;
  w.checks->fault.thread = current_fiber()->number;
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

std::string distance(uintptr_t address, uintptr_t low, uintptr_t high) {
  if (address < low) return std::to_string(low - address) + " bytes before the start of ";
  if (address >= high) return std::to_string(address - high) + " bytes past the end of ";
  return "across the end of ";
}

std::string sized(const std::string& name, uintptr_t low, uintptr_t high) {
  return name + " (" + std::to_string(high - low) + " bytes)";
}

}  // namespace

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

#if defined(WARPLOOM_LAB)
std::string fault_location(Worker&) { return ""; }  // kernels/lab/findings.cpp has written it down
#else
namespace {

std::string at(const Fault& f) {
  if (f.site.file) return " at " + shortened(f.site.file) + ":" + std::to_string(f.site.line);
  const std::string line = source_line(f.pc);
  return line.empty() ? "" : " at " + line;
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
  const std::string line = source_line(f.other_pc + library_place.base);
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
    case Fault::constant:  // of the lab
      return verb + bytes + " of constant memory" + at(f);
    case Fault::index:
      return "index " + std::to_string(static_cast<long>(f.index_value)) + " is outside of an array of type " + f.type + at(f);
  }
  return "";
}
#endif

}  // namespace emulator
}  // namespace warploom
#endif
