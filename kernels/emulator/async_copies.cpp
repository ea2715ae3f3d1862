// async_copies.cpp - cp.async: copies from device into shared memory that land when their thread waits for them.
//
// The GPU may carry a copy out at any time between the instruction and the wait. Here the source is read at once and the
// destination is overwritten with NaN until the wait: a kernel that waits for too few groups, or not at all, computes NaN on the
// fast build and is stopped on the checked one.
#include <cstdlib>

#include "scheduler_hooks.h"
#include "tensor_cores.h"

namespace warploom {
namespace emulator {

struct AsyncCopy {
  char* to;
  uint32_t bytes, group;
  char data[16];
};

struct AsyncCopies {
  AsyncCopy* items = nullptr;  // items[first .. count) are under way, in the order of their groups
  uint32_t first = 0, count = 0, capacity = 0;
  uint32_t group = 0;  // the one that is open
};

void forget_copies(Fiber* fiber) { fiber->copies->first = fiber->copies->count = fiber->copies->group = 0; }

void require_shared(const void* address, const char* what) {
  const Worker& w = *current_worker;
  if (static_cast<size_t>(static_cast<const char*>(address) - w.shared) >= kSharedArena)
    fail("%s is given the address %p, which is not in shared memory", what, address);
}

__attribute__((noinline)) void async_copy(void* shared, const void* global, int bytes, int source_bytes) {
  require_shared(shared, "cp.async");
  if (source_bytes < 0 || source_bytes > bytes) fail("cp.async of %d bytes is told to read %d of them", bytes, source_bytes);
  hooks::copy_issued(shared, global, static_cast<size_t>(bytes), static_cast<size_t>(source_bytes), __builtin_return_address(0));
  Fiber* self = current_fiber();
  if (!self->copies) {
    self->copies = static_cast<AsyncCopies*>(calloc(1, sizeof(AsyncCopies)));
    if (!self->copies) fail("the emulated device has no memory left for asynchronous copies");
  }
  AsyncCopies& c = *self->copies;
  if (c.first == c.count) c.first = c.count = 0;
  if (c.count == c.capacity) {
    const uint32_t capacity = c.capacity ? 2 * c.capacity : 32;
    void* items = realloc(c.items, capacity * sizeof(AsyncCopy));
    if (!items) fail("the emulated device has no memory left for asynchronous copies");
    c.items = static_cast<AsyncCopy*>(items);
    c.capacity = capacity;
  }
  AsyncCopy& item = c.items[c.count++];
  item.to = static_cast<char*>(shared);
  item.bytes = static_cast<uint32_t>(bytes);
  item.group = c.group;
  __builtin_memset(item.data, 0, sizeof(item.data));
  if (source_bytes) __builtin_memcpy(item.data, global, static_cast<size_t>(source_bytes));
  __builtin_memset(shared, 0xff, static_cast<size_t>(bytes));
}

void async_commit() {
  if (AsyncCopies* c = current_fiber()->copies) ++c->group;
}

__attribute__((noinline)) void async_wait(int groups_left) {
  AsyncCopies* c = current_fiber()->copies;
  if (!c) return;
  for (; c->first < c->count; ++c->first) {
    const AsyncCopy& item = c->items[c->first];
    if (item.group + static_cast<uint32_t>(groups_left) >= c->group) break;
    hooks::copy_landed(item.to, item.bytes, __builtin_return_address(0));
    __builtin_memcpy(item.to, item.data, item.bytes);
  }
}

}  // namespace emulator
}  // namespace warploom
