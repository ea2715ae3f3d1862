// warpgroup.cpp - wgmma.mma_async: four warps, 64 rows of A in registers (or fetched there), B described to the tensor cores where it lies
// in shared memory.
//
// PTX ISA, "Asynchronous warpgroup level matrix instructions". Of the 64 rows warp w of a warpgroup holds 16w .. 16w + 15, as the A and C
// fragments of mma.sync (tensor_cores.cpp); C goes on to the right, eight columns after eight. B lies in rows of 128 bytes in the 128-byte
// swizzle: eight rows are an atom of 1024, and bits 4 .. 6 of an address are exclusive-ored with its bits 7 .. 9. A row is one n along k,
// or, of the transposed matrix, one k along n.
// A warp's wgmmas are carried out when it waits for their group, until then the accumulators are NaN.
#include <cstdlib>
#include <new>

#include "async_proxy_state.h"
#include "scheduler_hooks.h"

namespace warploom {
namespace emulator {

namespace {

struct DueWork {  // what a lane brings to the rendezvous of wait_group
  WarpgroupWork* work;
  int due;  // items[first .. due)
};

WarpgroupWork& work_of(Fiber* self) {
  if (!self->multiplies) {
    void* memory = calloc(1, sizeof(WarpgroupWork));
    if (!memory) fail("the emulated device has no memory left for wgmma");
    self->multiplies = new (memory) WarpgroupWork;
  }
  return *self->multiplies;
}

// Where 16 bytes of B lie: of a row of 128, chunk `chunk` behind where the descriptor begins.
const char* chunk_of(const Worker& w, uint64_t descriptor, int row, int chunk) {
  const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fffu) << 4;
  const uint32_t stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fffu) << 4;
  const uint32_t plain = start + static_cast<uint32_t>(row / 8) * stride + static_cast<uint32_t>(row % 8) * 128u +
                         static_cast<uint32_t>(chunk) * 16u;
  const uint32_t at = plain ^ (plain >> 7 & 7u) << 4;
  if (at + 16 > w.launch->request->shared_bytes) fail("describes a matrix to wgmma that ends beyond dynamic shared memory");
  return w.shared + kDynamicOffset + at;
}

// Along k a row is one n, of which a wgmma takes 32 bytes of k; across, a row is one of 16 k with 64 n.
int rows_of(const WarpgroupWork::Item& item) { return item.across ? 16 : item.n; }
int chunks_of(const WarpgroupWork::Item& item) { return item.across ? 8 : 2; }

}  // namespace

uint32_t descriptor_address(const void* shared) {
  const Worker& w = *current_worker;
  const size_t at = static_cast<size_t>(static_cast<const char*>(shared) - (w.shared + kDynamicOffset));
  if (at >= w.launch->request->shared_bytes) fail("describes a matrix to wgmma that is not in dynamic shared memory");
  return static_cast<uint32_t>(at);
}

// A is 64 rows along k; a lane of the w-th warp has rows 16 w + lane / 4 and the one 8 below, words lane % 4 of both chunks.
__attribute__((noinline)) void warpgroup_fragment(uint64_t a, uint32_t (&registers)[4], Site site) {
  const Worker& w = *current_worker;
  Fiber* self = current_fiber();
  self->site = site;
  const int row = static_cast<int>(self->number / 32 % 4) * 16 + static_cast<int>(self->lane) / 4;
  for (int i = 0; i < 4; ++i) {
    const char* chunk = chunk_of(w, a, row + i % 2 * 8, i / 2);
    hooks::matrix_read(chunk, 16, __builtin_return_address(0));
    __builtin_memcpy(&registers[i], chunk + self->lane % 4 * 4, 4);
  }
  self->site = Site{};
}

void warpgroup_fence() { work_of(current_fiber()).fenced = true; }

void forget_multiplies(Fiber* fiber) {
  WarpgroupWork& k = *fiber->multiplies;
  k.first = k.count = 0;
  k.group = 0;
  k.fenced = false;
  for (auto& a : k.accumulators) a.d = nullptr;
}

void require_multiplies_done(const Fiber* fiber) {
  if (fiber->multiplies->first < fiber->multiplies->count)
    fail("returned while wgmmas of its warp were under way: nobody waited for them");
}

void registers_written(Fiber* fiber) { fiber->multiplies->fenced = false; }

void warpgroup_multiply(OperandType type, bool across, int n, float* d, uint64_t a01, uint64_t a23, uint64_t b, Site site) {
  Worker& w = *current_worker;
  Fiber* self = current_fiber();
  self->site = site;
  WarpgroupWork& k = work_of(self);
  if ((self->number / 128 + 1) * 128 > w.threads) fail("multiplies in a warpgroup of less than 128 threads");
  if (!k.fenced)
    fail("starts a wgmma without a wgmma.fence since its registers were last written: the fence orders them before it");
  if (b >> 62 != 1 || (b >> 49 & 7u) || (b >> 16 & 0x3fffu) > 1)
    fail("describes a matrix to wgmma in a layout that the emulated device does not model (it models the 128-byte swizzle)");
  if (across && (n != 64 || type == OperandType::tf32))
    fail("gives wgmma a matrix across k that the emulated device does not model (it models 64 columns of 16 bits)");
  if (k.first == k.count) k.first = k.count = 0;
  if (k.count == WarpgroupWork::kMost) {
    for (int i = k.first; i < k.count; ++i) k.items[i - k.first] = k.items[i];
    k.count -= k.first, k.first = 0;
    if (k.count == WarpgroupWork::kMost) fail("has more than %d wgmmas under way", WarpgroupWork::kMost);
  }
  int accumulator = 0;
  while (accumulator < WarpgroupWork::kAccumulators && k.accumulators[accumulator].d != d) ++accumulator;
  if (accumulator == WarpgroupWork::kAccumulators) {
    for (accumulator = 0; accumulator < WarpgroupWork::kAccumulators && k.accumulators[accumulator].d;) ++accumulator;
    if (accumulator == WarpgroupWork::kAccumulators) fail("has wgmmas of more than %d accumulators under way", accumulator);
    WarpgroupWork::Accumulator& opened = k.accumulators[accumulator];
    opened.d = d, opened.n = n, opened.open = 0;
    __builtin_memcpy(opened.value, d, static_cast<size_t>(n) / 2 * sizeof(float));
    __builtin_memset(d, 0xff, static_cast<size_t>(n) / 2 * sizeof(float));
  }
  WarpgroupWork::Accumulator& sum = k.accumulators[accumulator];
  if (sum.n != n) fail("adds %d columns to accumulators of %d", n, sum.n);
  ++sum.open;
  WarpgroupWork::Item& item = k.items[k.count++];
  item.a[0] = static_cast<uint32_t>(a01), item.a[1] = static_cast<uint32_t>(a01 >> 32);
  item.a[2] = static_cast<uint32_t>(a23), item.a[3] = static_cast<uint32_t>(a23 >> 32);
  item.b = b, item.type = type, item.across = across, item.n = n, item.accumulator = accumulator, item.group = k.group;
  self->site = Site{};
}

void warpgroup_commit() { ++work_of(current_fiber()).group; }

__attribute__((noinline)) void warpgroup_wait(int groups_left, Site site) {
  Worker& w = *current_worker;
  Fiber* self = current_fiber();
  WarpgroupWork& k = work_of(self);
  DueWork mine = {&k, k.first};
  self->site = site;
  while (mine.due < k.count && k.items[mine.due].group + static_cast<uint32_t>(groups_left) < k.group) ++mine.due;
  for (int i = k.first; i < mine.due; ++i) {  // each lane answers for every 32nd piece of B
    const int chunks = chunks_of(k.items[i]), pieces = rows_of(k.items[i]) * chunks;
    for (int at = static_cast<int>(self->lane); at < pieces; at += 32)
      hooks::matrix_read(chunk_of(w, k.items[i].b, at / chunks, at % chunks), 16, __builtin_return_address(0));
  }
  warp_rendezvous(static_cast<WarpOp>(TensorOp::warpgroup_wait), 0xffffffffu, reinterpret_cast<uint64_t>(&mine), 0, site);
  asm volatile("" : : "r"(&mine) : "memory");
  for (int i = k.first; i < mine.due; ++i) --k.accumulators[k.items[i].accumulator].open;
  k.first = mine.due;
  for (auto& a : k.accumulators) {
    if (!a.d || a.open) continue;
    __builtin_memcpy(a.d, a.value, static_cast<size_t>(a.n) / 2 * sizeof(float));
    a.d = nullptr;
  }
  k.fenced = false;
}

uint64_t due_multiplies(const Warp& warp) {
  const DueWork& lane = *reinterpret_cast<const DueWork*>(warp.value[0]);
  return static_cast<uint64_t>(lane.due - lane.work->first);
}

uint64_t due_flops(const Warp& warp) {
  const DueWork& lane = *reinterpret_cast<const DueWork*>(warp.value[0]);
  uint64_t sum = 0;
  for (int i = lane.work->first; i < lane.due; ++i)
    sum += 2u * 16u * static_cast<uint64_t>(lane.work->items[i].n) * (lane.work->items[i].type == OperandType::tf32 ? 8u : 16u);
  return sum;
}

void complete_warpgroup_wait(const uint64_t (&operands)[32]) {
  const Worker& w = *current_worker;
  const DueWork* lanes[32];
  for (int lane = 0; lane < 32; ++lane) lanes[lane] = reinterpret_cast<const DueWork*>(operands[lane]);
  const WarpgroupWork& leader = *lanes[0]->work;
  const int due = lanes[0]->due - leader.first;
  for (int lane = 1; lane < 32; ++lane)
    if (lanes[lane]->due - lanes[lane]->work->first != due) fail("waits for wgmmas that not all lanes of its warp have started");
  float a[16][16], b[16][WarpgroupWork::kMostColumns], c[16][WarpgroupWork::kMostColumns];
  for (int i = 0; i < due;) {
    const WarpgroupWork::Item& first = leader.items[leader.first + i];
    const int n = first.n, accumulator = first.accumulator;
    for (int lane = 0; lane < 32; ++lane) {
      const WarpgroupWork& k = *lanes[lane]->work;
      const float* value = k.accumulators[k.items[k.first + i].accumulator].value;
      for (int j = 0; j < n / 8; ++j)
        for (int e = 0; e < 4; ++e) c[lane / 4 + e / 2 * 8][8 * j + lane % 4 * 2 + e % 2] = value[4 * j + e];
    }
    const int begin = i;
    for (; i < due; ++i) {
      const WarpgroupWork::Item& item = leader.items[leader.first + i];
      if (item.accumulator != accumulator) break;
      const int K = item.type == OperandType::tf32 ? 8 : 16;
      for (int lane = 0; lane < 32; ++lane) {
        const WarpgroupWork& k = *lanes[lane]->work;
        const WarpgroupWork::Item& mine = k.items[k.first + i];
        if (mine.b != item.b || mine.n != item.n || mine.type != item.type || mine.across != item.across)
          fail("lanes of one warp give wgmma different matrices");
        gather_fragment(item.type, lane, mine.a, a);
      }
      const int elements = K / 2;  // of 16 bytes
      for (int row = 0; row < rows_of(item); ++row) {
        for (int chunk = 0; chunk < chunks_of(item); ++chunk) {
          const char* from = chunk_of(w, item.b, row, chunk);
          for (int e = 0; e < elements; ++e)
            (item.across ? b[row][chunk * elements + e] : b[chunk * elements + e][row]) = decode_element(item.type, from, e);
        }
      }
      for (int m = 0; m < 16; ++m)
        for (int k = 0; k < K; ++k) {
          const float factor = a[m][k];
          const float* __restrict__ from = b[k];
          float* __restrict__ to = c[m];
          for (int column = 0; column < n; ++column) to[column] += factor * from[column];
        }
      current_fiber()->warp->matrices =
          (current_fiber()->warp->matrices ^ item.b ^ static_cast<uint64_t>(n)) * 0x9e3779b97f4a7c15ull;
    }
    for (int lane = 0; lane < 32; ++lane) {
      WarpgroupWork& k = *lanes[lane]->work;
      float* value = k.accumulators[k.items[k.first + begin].accumulator].value;
      for (int j = 0; j < n / 8; ++j)
        for (int e = 0; e < 4; ++e) value[4 * j + e] = c[lane / 4 + e / 2 * 8][8 * j + lane % 4 * 2 + e % 2];
    }
  }
}

// The four warps of a warpgroup execute one instruction: they must have given the same matrices in the same order.
int warpgroup_error(const Worker& w, char* text, size_t size) {
  for (unsigned first = 0; first + 4 <= w.threads / 32; first += 4)
    for (unsigned i = 1; i < 4; ++i)
      if (w.warps[first + i].matrices != w.warps[first].matrices)
        return snprintf(text, size,
                        "warps %u and %u of one warpgroup gave wgmma different matrices; all four must execute the same", first,
                        first + i);
  return 0;
}

}  // namespace emulator
}  // namespace warploom
