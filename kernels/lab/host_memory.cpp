// host_memory.cpp - cudaMalloc and its kin, copies and fills: what belongs to whom, and the mistakes that a host makes with it.
#include <algorithm>
#include <mutex>

#include "../emulator/source_lines.h"
#include "state.h"

namespace warploom {
namespace lab {
namespace {

struct Released {
  Allocation allocation;
  Site site;
};
struct Memories {
  std::map<uintptr_t, Allocation> all;  // by start
  std::vector<Released> released;
  std::map<uintptr_t, Allocation> registered;  // cudaHostRegister
};
Memories& memories() {
  static Memories* m = new Memories;
  return *m;
}

cudaError_t take(void** to, size_t bytes, Memory memory, const Call& call) {
  if (!to)
    return call.misused("null-pointer", cudaErrorInvalidValue,
                        std::string(call.name) + ": the place for the address is a null pointer");
  if (bytes == 0) {
    *to = nullptr;
    return call.succeeds();
  }
  try {
    *to = emulator::memory_allocate(static_cast<int64_t>(bytes), buffer_name(call.site));
  } catch (const std::exception&) {
    *to = nullptr;
    return call.fails(cudaErrorMemoryAllocation, std::string(call.name) + " of " + std::to_string(bytes) +
                                                     " bytes fails: the emulated device has " +
                                                     std::to_string(emulator::physical_memory() >> 20) + " MiB");
  }
  Allocation a;
  a.low = reinterpret_cast<uintptr_t>(*to);
  a.high = a.low + bytes;
  a.memory = memory;
  a.site = call.site;
  a.call = call.name;
  memories().all[a.low] = a;
  // What the host writes into its own memory is seen only where its code is instrumented (not fread, for one).
  if (memory != Memory::device) emulator::memory_touch(*to, static_cast<int64_t>(bytes), true, "");
  return call.succeeds();
}

const char* kind_name(Memory m) {
  switch (m) {
    case Memory::device:
      return "device memory";
    case Memory::managed:
      return "managed memory";
    case Memory::pinned:
      return "pinned host memory";
    case Memory::symbol:
      return "a __device__ variable";
    default:
      return "host memory";
  }
}
bool on_device(Memory m) { return m == Memory::device || m == Memory::managed || m == Memory::symbol; }
bool on_host(Memory m) { return m == Memory::host || m == Memory::pinned || m == Memory::managed; }

// A range that begins in an allocation must end in it.
std::string beyond(const void* data, size_t bytes) {
  const uintptr_t low = reinterpret_cast<uintptr_t>(data);
  const Allocation* a = allocation_at(data);
  if (!a) {
    if (low - emulator::arena.base >= emulator::arena.size) return "";
    const std::string released = released_at(low);
    return released.empty() ? "an address that is in no allocation (" + emulator::near_buffer(low) + ")" : released;
  }
  if (low + bytes <= a->high) return "";
  return std::to_string(low + bytes - a->high) + " bytes past the end of " + buffer_name(a->site) + " (" +
         std::to_string(a->high - a->low) + " bytes)";
}

bool wholly_written(const void* data, size_t bytes) {
  const uintptr_t offset = reinterpret_cast<uintptr_t>(data) - emulator::arena.base;
  if (offset >= emulator::arena.size) return true;
  for (uintptr_t at = offset; at < offset + bytes; ++at)
    if (!(emulator::arena.written[at >> 2] >> (at & 3) & 1)) return false;
  return true;
}

// Checks one row or all of a copy; `bytes` from each.
cudaError_t check_copy(const Call& call, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Memory t = memory_of(to), f = memory_of(from);
  if (!to || !from)
    return call.misused("null-pointer", cudaErrorInvalidValue,
                        std::string(call.name) + ": the " + (to ? "source" : "destination") + " is a null pointer");
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault) {
    const bool t_fits = to_device ? on_device(t) || t == Memory::pinned : on_host(t);
    const bool f_fits = from_device ? on_device(f) || f == Memory::pinned : on_host(f);
    static const char* const names[] = {"cudaMemcpyHostToHost", "cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost",
                                        "cudaMemcpyDeviceToDevice"};
    if (!t_fits || !f_fits)
      return call.misused("copy-direction", cudaErrorInvalidValue,
                          std::string(call.name) + " with " + (kind >= 0 && kind < 4 ? names[kind] : "an unknown direction") +
                              ", but the " + (t_fits ? "source is " : "destination is ") + kind_name(t_fits ? f : t) +
                              (t_fits == f_fits ? " and the source is " + std::string(kind_name(f)) : ""));
  }
  for (const bool source : {false, true}) {
    const std::string problem = beyond(source ? from : to, bytes);
    if (!problem.empty())
      return call.misused(
          "copy-bounds", cudaErrorInvalidValue,
          std::string(call.name) + " of " + std::to_string(bytes) + " bytes " + (source ? "reads " : "writes ") + problem);
  }
  if (f == Memory::device && !wholly_written(from, bytes))
    report("warning", "uninitialised-copy", call.site,
           std::string(call.name) + " copies bytes of " + buffer_name(allocation_at(from)->site) + " that nothing has written");
  return cudaSuccess;
}

void carry_out(void* to, const void* from, size_t bytes) {
  const bool to_arena = allocation_at(to), from_arena = allocation_at(from);
  if (to_arena) emulator::memory_touch(to, static_cast<int64_t>(bytes), true, "copy");
  if (to_arena && from_arena) emulator::memory_copied(to, from, static_cast<int64_t>(bytes));
  memmove(to, from, bytes);
}

cudaError_t copy(const Call& call, void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream,
                 bool async) {
  if (bytes == 0) return call.succeeds();
  if (const cudaError_t error = check_copy(call, to, from, bytes, kind)) return error;
  carry_out(to, from, bytes);
  const Memory t = memory_of(to), f = memory_of(from);
  if (!async)
    stream_done(nullptr);
  else if (t == Memory::pinned && on_device(f))
    note_pending_copy(stream, to, bytes, true, call.site);
  else if (f == Memory::pinned && on_device(t))
    note_pending_copy(stream, from, bytes, false, call.site);
  return call.succeeds();
}

cudaError_t copy_rows(const Call& call, void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                      size_t height, cudaMemcpyKind kind, bool async) {
  if (width > to_pitch || width > from_pitch)
    return call.misused("copy-bounds", cudaErrorInvalidPitchValue,
                        std::string(call.name) + ": rows of " + std::to_string(width) + " bytes do not fit into a pitch of " +
                            std::to_string(std::min(to_pitch, from_pitch)));
  for (size_t row = 0; row < height && width; ++row) {
    void* t = static_cast<char*>(to) + row * to_pitch;
    const void* f = static_cast<const char*>(from) + row * from_pitch;
    if (const cudaError_t error = check_copy(call, t, f, width, kind)) return error;
    carry_out(t, f, width);
  }
  if (!async) stream_done(nullptr);
  return call.succeeds();
}

cudaError_t fill(const Call& call, void* to, int byte, size_t bytes) {
  if (bytes == 0) return call.succeeds();
  if (!to)
    return call.misused("null-pointer", cudaErrorInvalidValue, std::string(call.name) + ": the destination is a null pointer");
  const Memory memory = memory_of(to);
  if (memory == Memory::host && emulator::arena.base &&
      reinterpret_cast<uintptr_t>(to) - emulator::arena.base >= emulator::arena.size)
    return call.misused("copy-direction", cudaErrorInvalidValue,
                        std::string(call.name) + " of host memory: it fills device memory");
  const std::string problem = beyond(to, bytes);
  if (!problem.empty())
    return call.misused("copy-bounds", cudaErrorInvalidValue,
                        std::string(call.name) + " of " + std::to_string(bytes) + " bytes writes " + problem);
  if (allocation_at(to)) emulator::memory_touch(to, static_cast<int64_t>(bytes), true, "fill");
  memset(to, byte, bytes);
  return call.succeeds();
}

cudaError_t release(const Call& call, void* data, bool pinned) {
  if (!data) return call.succeeds();
  Memories& m = memories();
  const auto it = m.all.find(reinterpret_cast<uintptr_t>(data));
  if (it == m.all.end()) {
    const Allocation* inside = allocation_at(data);
    const std::string released = released_at(reinterpret_cast<uintptr_t>(data));
    return call.misused(
        "invalid-free", cudaErrorInvalidValue,
        std::string(call.name) + (inside ? " of an address inside of " + buffer_name(inside->site) + ", not its start"
                                  : !released.empty() ? ": " + released
                                                      : " of memory that no CUDA function has allocated"));
  }
  if (pinned != (it->second.memory == Memory::pinned))
    return call.misused(
        "invalid-free", cudaErrorInvalidValue,
        std::string(call.name) + " of memory from " + it->second.call + ": use " + (pinned ? "cudaFree" : "cudaFreeHost"));
  if (m.released.size() < 4096) m.released.push_back({it->second, call.site});
  emulator::memory_release(data);
  m.all.erase(it);
  return call.succeeds();
}

}  // namespace

const Allocation* allocation_at(const void* data) {
  const auto& all = memories().all;
  auto it = all.upper_bound(reinterpret_cast<uintptr_t>(data));
  if (it == all.begin()) return nullptr;
  --it;
  return reinterpret_cast<uintptr_t>(data) < it->second.high ? &it->second : nullptr;
}

Memory memory_of(const void* data) {
  if (const Allocation* a = allocation_at(data)) return a->memory;
  open_statics();
  return symbol_kind(data) ? Memory::symbol : Memory::host;
}

std::string released_at(uintptr_t address) {
  const auto& released = memories().released;
  for (size_t i = released.size(); i-- > 0;)
    if (address >= released[i].allocation.low && address < released[i].allocation.high)
      return buffer_name(released[i].allocation.site) + ", which was released at line " + std::to_string(released[i].site.line);
  return "";
}

void report_leaks() {
  for (const auto& entry : memories().all) {
    const Allocation& a = entry.second;
    report("warning", "leak", a.site, buffer_name(a.site) + " (" + std::to_string(a.high - a.low) + " bytes) is never released");
  }
}

void everything_written() {
  for (const auto& entry : memories().all)
    emulator::memory_touch(reinterpret_cast<void*>(entry.first), static_cast<int64_t>(entry.second.high - entry.second.low), true,
                           "");
}

cudaError_t allocate(void** to, size_t bytes, const char* name, Site site) {
  return take(to, bytes, Memory::device, Call(name, site));
}
cudaError_t allocate_managed(void** to, size_t bytes, unsigned, Site site) {
  return take(to, bytes, Memory::managed, Call("cudaMallocManaged", site));
}
cudaError_t allocate_pinned(void** to, size_t bytes, const char* name, Site site) {
  const cudaError_t error = take(to, bytes, Memory::pinned, Call(name, site));
  return error;
}
cudaError_t allocate_pitched(void** to, size_t* pitch, size_t width, size_t height, Site site) {
  *pitch = (width + 511) / 512 * 512;
  return take(to, *pitch * height, Memory::device, Call("cudaMallocPitch", site));
}

namespace {
cudaError_t beyond_symbol(const Call& call, size_t size, size_t bytes, size_t offset) {
  if (offset + bytes <= size) return cudaSuccess;
  return call.misused("copy-bounds", cudaErrorInvalidValue,
                      std::string(call.name) + ": " + std::to_string(bytes) + " bytes from byte " + std::to_string(offset) +
                          " on do not fit into a variable of " + std::to_string(size) + " bytes");
}
}  // namespace

cudaError_t copy_to_symbol(const void* symbol, size_t size, const void* from, size_t bytes, size_t offset, cudaMemcpyKind kind,
                           cudaStream_t, bool async, Site site) {
  const Call call("cudaMemcpyToSymbol", site);
  if (const cudaError_t error = beyond_symbol(call, size, bytes, offset)) return error;
  if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault)
    return call.misused("copy-direction", cudaErrorInvalidMemcpyDirection,
                        "cudaMemcpyToSymbol copies to the device: the direction says otherwise");
  if (kind == cudaMemcpyHostToDevice && memory_of(from) == Memory::device)
    return call.misused("copy-direction", cudaErrorInvalidValue,
                        "cudaMemcpyToSymbol with cudaMemcpyHostToDevice, but the source is device memory");
  memmove(const_cast<char*>(static_cast<const char*>(symbol)) + offset, from, bytes);
  if (!async) stream_done(nullptr);
  return call.succeeds();
}
cudaError_t copy_from_symbol(void* to, const void* symbol, size_t size, size_t bytes, size_t offset, cudaMemcpyKind kind,
                             cudaStream_t, bool async, Site site) {
  const Call call("cudaMemcpyFromSymbol", site);
  if (const cudaError_t error = beyond_symbol(call, size, bytes, offset)) return error;
  if (kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault)
    return call.misused("copy-direction", cudaErrorInvalidMemcpyDirection,
                        "cudaMemcpyFromSymbol copies from the device: the direction says otherwise");
  memmove(to, static_cast<const char*>(symbol) + offset, bytes);
  if (!async) stream_done(nullptr);
  return call.succeeds();
}

}  // namespace lab

#if defined(WARPLOOM_EMULATOR_CHECKED)
namespace emulator {

// Host code touches the arena: device memory, which it must not, or managed and pinned memory, which it may when the device is done with it.
void host_access(uintptr_t address, size_t bytes, bool write, const void* pc) {
  using namespace lab;
  const Allocation* a = allocation_at(reinterpret_cast<const void*>(address));
  const char* verb = write ? "writes " : "reads ";
  auto tell = [&](const char* code, const std::string& message) {
    static uintptr_t seen[64];
    static int count = 0;
    const auto where = reinterpret_cast<uintptr_t>(pc);
    for (int i = 0; i < count; ++i)
      if (seen[i] == where) return;
    if (count == 64) return;
    seen[count++] = where;
    find_library();
    Line("finding").put("level", "error").put("code", code).put("message", message).code("pc", where).write();
  };
  if (!a) {
    const std::string released = released_at(address);
    tell("host-access", std::string("host code ") + verb + (released.empty() ? "device memory that is not allocated" : released));
    return;
  }
  if (a->memory == Memory::device) {
    tell("host-access",
         std::string("host code ") + verb + buffer_name(a->site) + ", which is device memory: copy it with cudaMemcpy");
    return;
  }
  if (a->memory == Memory::managed) {
    const uintptr_t word = (address - arena.base) >> 2;
    const uint64_t writer = arena.cells[word].writer >> global_tag::kSerial,
                   reader = arena.cells[word].reader >> global_tag::kSerial;
    if ((writer && !finished(writer)) || (write && reader && !finished(reader)))
      tell("missing-synchronisation", std::string("host code ") + verb + buffer_name(a->site) +
                                          " while a kernel that uses it may still run: call cudaDeviceSynchronize() first");
  } else if (const PendingCopy* c = pending_copy_at(address, bytes, write)) {
    tell("missing-synchronisation", std::string("host code ") + verb + buffer_name(a->site) +
                                        " while the asynchronous copy of line " + std::to_string(c->site.line) +
                                        " may still be under way: synchronise its stream first");
  }
}

}  // namespace emulator
#endif
}  // namespace warploom

using namespace warploom::lab;

cudaError_t cudaFree(void* data, Site site) { return release(Call("cudaFree", site), data, false); }
cudaError_t cudaFreeHost(void* data, Site site) { return release(Call("cudaFreeHost", site), data, true); }
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, Site site) {
  return copy(Call("cudaMemcpy", site), to, from, bytes, kind, nullptr, false);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream, Site site) {
  return copy(Call("cudaMemcpyAsync", site), to, from, bytes, kind, stream, true);
}
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind, Site site) {
  return copy_rows(Call("cudaMemcpy2D", site), to, to_pitch, from, from_pitch, width, height, kind, false);
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t, Site site) {
  return copy_rows(Call("cudaMemcpy2DAsync", site), to, to_pitch, from, from_pitch, width, height, kind, true);
}
cudaError_t cudaMemset(void* to, int byte, size_t bytes, Site site) { return fill(Call("cudaMemset", site), to, byte, bytes); }
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t, Site site) {
  return fill(Call("cudaMemsetAsync", site), to, byte, bytes);
}
cudaError_t cudaMemset2D(void* to, size_t pitch, int byte, size_t width, size_t height, Site site) {
  const Call call("cudaMemset2D", site);
  for (size_t row = 0; row < height; ++row)
    if (const cudaError_t error = fill(call, static_cast<char*>(to) + row * pitch, byte, width)) return error;
  return call.succeeds();
}
cudaError_t cudaMemGetInfo(size_t* left, size_t* total) {
  *total = static_cast<size_t>(warploom::emulator::physical_memory());
  size_t used = 0;
  for (const auto& entry : memories().all) used += entry.second.high - entry.second.low;
  *left = *total > used ? *total - used : 0;
  return cudaSuccess;
}
cudaError_t cudaMemPrefetchAsync(const void* data, size_t bytes, int, cudaStream_t, Site site) {
  const Call call("cudaMemPrefetchAsync", site);
  const Allocation* a = allocation_at(data);
  if (!a || a->memory != Memory::managed)
    return call.misused("invalid-pointer", cudaErrorInvalidValue,
                        "cudaMemPrefetchAsync of memory that is not from cudaMallocManaged");
  (void)bytes;
  return call.succeeds();
}
cudaError_t cudaMemPrefetchAsync(const void* data, size_t bytes, cudaMemLocation location, unsigned, cudaStream_t stream,
                                 Site site) {
  return cudaMemPrefetchAsync(data, bytes, location.id, stream, site);
}
cudaError_t cudaHostRegister(void* data, size_t bytes, unsigned, Site site) {
  const Call call("cudaHostRegister", site);
  Allocation a;
  a.low = reinterpret_cast<uintptr_t>(data);
  a.high = a.low + bytes;
  memories().registered[a.low] = a;
  return call.succeeds();
}
cudaError_t cudaHostUnregister(void* data, Site site) {
  const Call call("cudaHostUnregister", site);
  if (memories().registered.erase(reinterpret_cast<uintptr_t>(data))) return call.succeeds();
  return call.misused("invalid-pointer", cudaErrorInvalidValue,
                      "cudaHostUnregister of memory that cudaHostRegister has not registered");
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  const Memory m = memory_of(data);
  *attributes = cudaPointerAttributes{m == Memory::host      ? cudaMemoryTypeUnregistered
                                      : m == Memory::pinned  ? cudaMemoryTypeHost
                                      : m == Memory::managed ? cudaMemoryTypeManaged
                                                             : cudaMemoryTypeDevice,
                                      0, m == Memory::host ? nullptr : const_cast<void*>(data),
                                      on_host(m) && m != Memory::host ? const_cast<void*>(data) : nullptr};
  return cudaSuccess;
}
cudaError_t cudaDeviceReset(Site site) {
  const Call call("cudaDeviceReset", site);
  all_done();
  std::vector<void*> rest;
  for (const auto& entry : memories().all) rest.push_back(reinterpret_cast<void*>(entry.first));
  report_leaks();
  for (void* data : rest) {
    warploom::emulator::memory_release(data);
    memories().all.erase(reinterpret_cast<uintptr_t>(data));
  }
  return call.succeeds();
}
