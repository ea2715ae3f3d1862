// memory_checked.cpp - device memory of the checked build: an arena of reserved addresses with red zones, a table that names the
// owner of every granule, and the regions that the running call may touch.
#if defined(WARPLOOM_EMULATOR_CHECKED)
#include <sys/mman.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "checks.h"
#include "memory.h"

namespace warploom {
namespace emulator {

Arena arena;

namespace {

constexpr size_t kGranule = 256, kZone = 4096;

struct Book {
  std::mutex lock;
  std::map<uintptr_t, size_t> free;         // start -> bytes
  std::map<uintptr_t, uint32_t> allocated;  // start -> segment
  std::vector<uint32_t> unused_segments;
  uint32_t next_segment = kFirstAllocation;
  std::map<uint32_t, std::string> names;
  std::string operation;
  std::condition_variable call_ended;  // one call at a time: the table of owners is the library's
  std::thread::id caller;              // who is in one
};
Book& book() {
  static Book* b = new Book;
  return *b;
}

template <class T>
T* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<T*>(p);
}

// Address space only: pages appear when they are touched. Where addresses are rationed, a smaller arena is tried.
void open_arena() {
  if (arena.base) return;
  size_t size = size_t(1) << 30;
  while (size < static_cast<size_t>(physical_memory())) size *= 2;
  for (; size >= size_t(64) << 20; size /= 2) {
    char* memory = reserve<char>(size);
    auto* owner = reserve<uint16_t>(size / kGranule * sizeof(uint16_t));
    auto* written = reserve<uint8_t>(size / 4);
    auto* cells = reserve<Cell>(size / 4 * sizeof(Cell));
    if (memory && owner && written && cells) {
      arena.owner = owner;
      arena.written = written;
      arena.cells = cells;
      arena.size = size;
      arena.base = reinterpret_cast<uintptr_t>(memory);
      book().free[arena.base + kZone] = size - kZone;
      return;
    }
    if (memory) munmap(memory, size);
    if (owner) munmap(owner, size / kGranule * sizeof(uint16_t));
    if (written) munmap(written, size / 4);
    if (cells) munmap(cells, size / 4 * sizeof(Cell));
  }
  throw OutOfMemoryError(
      "the checked emulated device cannot reserve address space for its memory (is there a limit on virtual memory?)");
}

void set_owner(uintptr_t low, uintptr_t high, uint32_t id) {
  for (uintptr_t g = (low - arena.base) / kGranule; g < (high - arena.base + kGranule - 1) / kGranule; ++g)
    arena.owner[g] = static_cast<uint16_t>(id);
}

void set_written(uintptr_t low, uintptr_t high, bool value) {
  uintptr_t a = low - arena.base, end = high - arena.base;
  auto one = [&](uintptr_t byte) {
    const auto bit = static_cast<uint8_t>(1u << (byte & 3));
    if (value)
      arena.written[byte >> 2] |= bit;
    else
      arena.written[byte >> 2] &= static_cast<uint8_t>(~bit);
  };
  for (; a < end && (a & 3); ++a) one(a);
  if (end > a) memset(arena.written + (a >> 2), value ? 0xf : 0, (end - a) >> 2);
  for (a += (end > a ? (end - a) & ~uintptr_t(3) : 0); a < end; ++a) one(a);
}

// The allocation that holds [low, high), or 0.
uint32_t allocation_of(uintptr_t low, uintptr_t high) {
  auto it = book().allocated.upper_bound(low);
  if (it == book().allocated.begin()) return 0;
  --it;
  return high <= arena.high[it->second] ? it->second : 0;
}

void close_regions() {
  for (uint32_t id = kFirstRegion; id < arena.regions; ++id) {
    const uint32_t owner = allocation_of(arena.low[id], arena.low[id] + 1);
    set_owner(arena.low[id], arena.high[id], owner);
    arena.low[id] = arena.high[id] = 0;
  }
  arena.regions = kFirstRegion;
  arena.limit = kSegments;
  book().operation.clear();
}

}  // namespace

const std::string& segment_name(uint32_t id) { return book().names[id]; }
std::map<uintptr_t, uint32_t>& allocations() { return book().allocated; }
std::string operation() { return book().operation; }

void* memory_allocate(int64_t bytes, const std::string& what) {
  Book& b = book();
  const std::lock_guard<std::mutex> hold(b.lock);
  open_arena();
  const size_t wanted = static_cast<size_t>(bytes > 0 ? bytes : 1);
  const size_t taken = ((wanted + kGranule - 1) & ~(kGranule - 1)) + kZone;
  auto it = b.free.begin();
  if (bytes < physical_memory())
    while (it != b.free.end() && it->second < taken) ++it;
  else
    it = b.free.end();
  if (it == b.free.end() || (b.unused_segments.empty() && b.next_segment == kSegments))
    throw OutOfMemoryError("out of memory on the checked emulated device: " + what + " needs " + std::to_string(bytes >> 20) +
                           " MiB of " + std::to_string(physical_memory() >> 20) + " MiB; use a smaller batch size");
  const uintptr_t start = it->first;
  const size_t left = it->second - taken;
  b.free.erase(it);
  if (left) b.free[start + taken] = left;
  uint32_t id = b.next_segment;
  if (b.unused_segments.empty()) {
    ++b.next_segment;
  } else {
    id = b.unused_segments.back();
    b.unused_segments.pop_back();
  }
  arena.low[id] = start;
  arena.high[id] = start + wanted;
  arena.writable[id] = true;
  b.names[id] = what;
  b.allocated[start] = id;
  set_owner(start, start + wanted, id);
  set_written(start, start + wanted, false);
  return reinterpret_cast<void*>(start);
}

void memory_release(void* data) noexcept {
  if (!data) return;
  Book& b = book();
  const std::lock_guard<std::mutex> hold(b.lock);
  const auto it = b.allocated.find(reinterpret_cast<uintptr_t>(data));
  if (it == b.allocated.end()) return;
  const uint32_t id = it->second;
  const uintptr_t start = it->first;
  size_t taken = ((arena.high[id] - start + kGranule - 1) & ~(kGranule - 1)) + kZone;
  set_owner(start, arena.high[id], 0);
  arena.low[id] = arena.high[id] = 0;
  b.allocated.erase(it);
  b.names.erase(id);
  b.unused_segments.push_back(id);
  if (taken > (size_t(1) << 20)) {  // give the pages back
    const uintptr_t low = (start + 4095) & ~uintptr_t(4095), high = (start + taken) & ~uintptr_t(4095);
    madvise(reinterpret_cast<void*>(low), high - low, MADV_DONTNEED);
  }
  uintptr_t low = start;
  auto next = b.free.upper_bound(start);
  if (next != b.free.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == start) {
      low = before->first;
      taken += before->second;
      b.free.erase(before);
    }
  }
  if (next != b.free.end() && low + taken == next->first) {
    taken += next->second;
    b.free.erase(next);
  }
  b.free[low] = taken;
}

void memory_touch(const void* data, int64_t bytes, bool write, const char* action) {
  const std::lock_guard<std::mutex> hold(book().lock);
  const uintptr_t low = reinterpret_cast<uintptr_t>(data), high = low + static_cast<uintptr_t>(bytes);
  if (!allocation_of(low, high))
    throw KernelFault(std::string(action) + ": " + std::to_string(bytes) +
                      " bytes at this address are not inside one device buffer");
  if (write) set_written(low, high, true);
}

void memory_copied(void* to, const void* from, int64_t bytes) {  // what was unwritten there is unwritten here
  const uintptr_t t = reinterpret_cast<uintptr_t>(to) - arena.base, f = reinterpret_cast<uintptr_t>(from) - arena.base;
  if ((t | f) & 3) return;
  memmove(arena.written + (t >> 2), arena.written + (f >> 2), static_cast<size_t>(bytes >> 2));
}

// Regions may overlap (an operation in place): the memory is cut where one begins or ends, and each piece has all the roles that
// lie on it.
void memory_begin_call(const char* op, const std::vector<Region>& regions) {
  Book& b = book();
  std::unique_lock<std::mutex> hold(b.lock);
  const std::thread::id self = std::this_thread::get_id();
  b.call_ended.wait(hold, [&] { return b.caller == std::thread::id() || b.caller == self; });
  b.caller = std::thread::id();  // until nothing can throw any more
  close_regions();
  std::vector<uintptr_t> cuts;
  for (const Region& r : regions) {
    if (!r.data || r.bytes <= 0) continue;
    const uintptr_t low = reinterpret_cast<uintptr_t>(r.data), high = low + static_cast<uintptr_t>(r.bytes);
    if (!allocation_of(low, high))
      throw KernelFault(std::string(op) + ": buffer " + r.name + " (" + std::to_string(r.bytes) +
                        " bytes) is not inside one allocation of this device");
    cuts.push_back(low);
    cuts.push_back(high);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  uint32_t id = kFirstRegion;
  uintptr_t filled = 0;  // granules below this address have an owner
  for (size_t i = 0; i + 1 < cuts.size() && id < kFirstAllocation; ++i) {
    bool covered = false, readable = false, writable = false;
    std::string name;
    for (const Region& r : regions) {
      const uintptr_t low = reinterpret_cast<uintptr_t>(r.data);
      if (!r.data || r.bytes <= 0 || low > cuts[i] || low + static_cast<uintptr_t>(r.bytes) < cuts[i + 1]) continue;
      covered = true;
      readable = readable || r.role != Region::write;
      writable = writable || r.role != Region::read;
      name += (name.empty() ? "" : "/") + r.name;
    }
    if (!covered) continue;
    arena.low[id] = cuts[i];
    arena.high[id] = cuts[i + 1];
    arena.writable[id] = writable;
    b.names[id] = name;
    if (!readable) set_written(cuts[i], cuts[i + 1], false);
    const uintptr_t first = (cuts[i] - arena.base) / kGranule * kGranule + arena.base;
    set_owner(cuts[i], cuts[i + 1], id);
    if (first < filled) arena.owner[(first - arena.base) / kGranule] = kMixed;
    filled = (cuts[i + 1] - arena.base + kGranule - 1) / kGranule * kGranule + arena.base;
    ++id;
  }
  arena.regions = id;
  arena.limit = kFirstAllocation;
  b.operation = op;
  b.caller = self;
}

void memory_end_call() {
  Book& b = book();
  const std::lock_guard<std::mutex> hold(b.lock);
  if (b.caller != std::this_thread::get_id()) return;
  close_regions();
  b.caller = std::thread::id();
  b.call_ended.notify_all();
}

}  // namespace emulator
}  // namespace warploom
#endif
