// bulk_copies.cpp - cp.async.bulk: copies of whole pieces from device into shared memory, which an mbarrier counts.
//
// PTX ISA, "Data movement: cp.async.bulk, cp.async.bulk.tensor" (tiled mode, four dimensions; swizzles of rows as long as their span).
// One thread starts a copy; the destination is NaN until the copy lands, which it does when a thread waits for the barrier.
#include <cstdlib>

#include "async_proxy_state.h"
#include "scheduler_hooks.h"

namespace warploom {
namespace emulator {
namespace {

BulkCopy& start(AsyncBarrierState& b, void* shared, uint32_t bytes, const char* what) {
  AsyncState& s = *current_worker->async;
  require_shared(shared, what);
  if (reinterpret_cast<uintptr_t>(shared) % 128) fail("starts a bulk copy to a shared address that is not a multiple of 128");
  if (!b.published) fail("starts a bulk copy for an mbarrier that the copy engine may not see yet: fence after mbarrier.init");
  BulkCopy* c = s.spare;
  if (c)
    s.spare = c->next;
  else
    c = static_cast<BulkCopy*>(malloc(sizeof(BulkCopy)));
  if (!c) fail("the emulated device has no memory left for bulk copies");
  c->next = nullptr;
  c->to = static_cast<char*>(shared);
  c->bytes = bytes;
  (b.first ? b.last->next : b.first) = c;
  b.last = c;
  ++s.under_way;
  return *c;
}

// row(to, from or null, bytes, bytes of them inside) for each run of the box that is contiguous on both sides.
template <class Row>
void for_each_row(const TensorMap& m, const int (&at)[4], char* to, Row row) {
  const uint32_t bytes = m.box[0] * m.element_bytes;
  const int64_t inner = static_cast<int64_t>(m.size[0]) - at[0];  // elements of a row inside, before the box cuts them
  const int64_t inside = at[0] < 0 ? 0 : inner < 0 ? 0 : inner < m.box[0] ? inner : m.box[0];
  for (uint32_t i3 = 0; i3 < m.box[3]; ++i3) {
    for (uint32_t i2 = 0; i2 < m.box[2]; ++i2) {
      for (uint32_t i1 = 0; i1 < m.box[1]; ++i1, to += bytes) {
        const int64_t p1 = at[1] + static_cast<int64_t>(i1), p2 = at[2] + static_cast<int64_t>(i2),
                      p3 = at[3] + static_cast<int64_t>(i3);
        const bool there = inside > 0 && p1 >= 0 && p1 < m.size[1] && p2 >= 0 && p2 < m.size[2] && p3 >= 0 && p3 < m.size[3];
        const char* from = m.base + static_cast<uint64_t>(at[0] < 0 ? 0 : at[0]) * m.element_bytes;
        if (there)
          from += static_cast<uint64_t>(p1) * m.stride[1] + static_cast<uint64_t>(p2) * m.stride[2] +
                  static_cast<uint64_t>(p3) * m.stride[3];
        row(to, from, bytes, there ? static_cast<uint32_t>(inside) * m.element_bytes : 0u);
      }
    }
  }
}

// A row as it lies in shared memory: its 16-byte chunks change places, by where the row is.
void land_row(uint32_t swizzle_bytes, char* to, const char* from, uint32_t bytes, uint32_t inside) {
  if (!swizzle_bytes) {
    __builtin_memcpy(to, from, inside);
    __builtin_memset(to + inside, 0, bytes - inside);
    return;
  }
  const size_t by = reinterpret_cast<uintptr_t>(to) >> 7 & (swizzle_bytes / 16 - 1);
  for (uint32_t chunk = 0; chunk < bytes / 16; ++chunk) {
    char* const place = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(to + 16 * chunk) ^ by << 4);
    const uint32_t there = inside < 16 * chunk ? 0 : inside - 16 * chunk < 16 ? inside - 16 * chunk : 16;
    __builtin_memcpy(place, from + 16 * chunk, there);
    __builtin_memset(place + there, 0, 16 - there);
  }
}

}  // namespace

__attribute__((noinline)) void bulk_copy(void* shared, const void* global, uint32_t bytes, void* barrier, Site site) {
  Worker& w = *current_worker;
  AsyncBarrierState& b = barrier_at(barrier, site);
  if (bytes % 16 || reinterpret_cast<uintptr_t>(global) % 16)
    fail("starts a bulk copy of %u bytes from %p: both must be multiples of 16", bytes, global);
  const void* caller = __builtin_return_address(0);
  BulkCopy& c = start(b, shared, bytes, "cp.async.bulk");
  c.tensor = false;
  c.from = static_cast<const char*>(global);
  hooks::bulk_issued(w, static_cast<int>(&b - w.async->barriers), shared, global, bytes, bytes, caller);
  __builtin_memset(shared, 0xff, bytes);
  hooks::async_barrier_reached_by_copy(w, current_fiber(), static_cast<int>(&b - w.async->barriers));
  current_fiber()->site = Site{};
}

__attribute__((noinline)) void bulk_copy_tensor(void* shared, const TensorMap* map, int at0, int at1, int at2, int at3,
                                                void* barrier, Site site) {
  Worker& w = *current_worker;
  AsyncBarrierState& b = barrier_at(barrier, site);
  const void* caller = __builtin_return_address(0);
  const TensorMap& m = *map;
  if (at0 < 0) fail("starts a tensor copy at %d of the innermost dimension, before it begins: not modelled", at0);
  if (m.swizzle_bytes && reinterpret_cast<uintptr_t>(shared) % (8 * m.swizzle_bytes))
    fail("starts a tensor copy with a %u-byte swizzle to a shared address that is not a multiple of %u", m.swizzle_bytes,
         8 * m.swizzle_bytes);
  BulkCopy& c = start(b, shared, m.box[0] * m.box[1] * m.box[2] * m.box[3] * m.element_bytes, "cp.async.bulk.tensor");
  c.tensor = true;
  c.map = m;
  c.at[0] = at0, c.at[1] = at1, c.at[2] = at2, c.at[3] = at3;
  const int index = static_cast<int>(&b - w.async->barriers);
  for_each_row(c.map, c.at, c.to, [&](char* to, const char* from, uint32_t bytes, uint32_t inside) {
    hooks::bulk_issued(w, index, to, from, bytes, inside, caller);
  });
  __builtin_memset(shared, 0xff, c.bytes);
  hooks::async_barrier_reached_by_copy(w, current_fiber(), index);
  current_fiber()->site = Site{};
}

bool land_copies(Worker& w, AsyncBarrierState& b) {
  if (!b.first) return false;
  AsyncState& s = *w.async;
  while (BulkCopy* c = b.first) {
    b.first = c->next;
    if (c->tensor) {
      const uint32_t swizzle = c->map.swizzle_bytes;
      for_each_row(c->map, c->at, c->to, [swizzle](char* to, const char* from, uint32_t bytes, uint32_t inside) {
        land_row(swizzle, to, from, bytes, inside);
      });
    } else {
      __builtin_memcpy(c->to, c->from, c->bytes);
    }
    hooks::bulk_landed(w, c->to, c->bytes);
    b.bytes -= c->bytes;
    --s.under_way;
    c->next = s.spare;
    s.spare = c;
  }
  b.last = nullptr;
  complete_if_due(w, b);
  return true;
}

}  // namespace emulator
}  // namespace warploom
