// cooperative_groups.h - groups of threads: blocks, tiles of a warp, the grid. coalesced_threads() is the calling thread alone, which CUDA allows
// (which lanes run together is not promised).
#pragma once

#include "cuda_runtime.h"
// After it: needs its words.
#include "../grid_sync.h"

namespace cooperative_groups {

namespace wl = ::warploom::emulator;

class thread_group;

class thread_block {
 public:
  void sync(WL_SITE) const { __syncthreads(site); }
  unsigned thread_rank() const {
    const uint3 t = threadIdx;
    const dim3 d = blockDim;
    return t.x + d.x * (t.y + d.y * t.z);
  }
  unsigned size() const {
    const dim3 d = blockDim;
    return d.x * d.y * d.z;
  }
  unsigned num_threads() const { return size(); }
  uint3 thread_index() const { return threadIdx; }
  uint3 group_index() const { return blockIdx; }
  dim3 dim_threads() const { return blockDim; }
  dim3 group_dim() const { return blockDim; }
  static void wl_sync() {}
};
inline thread_block this_thread_block() { return {}; }

class grid_group {
 public:
  void sync(WL_SITE) const { ::warploom::lab::grid_barrier(site); }
  bool is_valid() const { return ::warploom::lab::is_cooperative(); }
  unsigned long long size() const { return static_cast<unsigned long long>(thread_block().size()) * num_blocks(); }
  unsigned long long num_threads() const { return size(); }
  unsigned long long num_blocks() const {
    const dim3 g = gridDim;
    return static_cast<unsigned long long>(g.x) * g.y * g.z;
  }
  unsigned long long block_rank() const {
    const uint3 b = blockIdx;
    const dim3 g = gridDim;
    return b.x + static_cast<unsigned long long>(g.x) * (b.y + static_cast<unsigned long long>(g.y) * b.z);
  }
  unsigned long long thread_rank() const { return block_rank() * thread_block().size() + thread_block().thread_rank(); }
  uint3 block_index() const { return blockIdx; }
  dim3 dim_blocks() const { return gridDim; }
  dim3 group_dim() const { return gridDim; }
};
inline grid_group this_grid() { return {}; }

// Lanes of one warp: all of a tile, named by their mask.
class wl_lanes {
 public:
  explicit wl_lanes(unsigned mask) : mask_(mask) {}
  void sync(WL_SITE) const { __syncwarp(mask_, site); }
  unsigned size() const { return static_cast<unsigned>(__builtin_popcount(mask_)); }
  unsigned num_threads() const { return size(); }
  unsigned thread_rank() const { return static_cast<unsigned>(__builtin_popcount(mask_ & ((1u << wl::lane_number()) - 1u))); }
  template <class T>
  T shfl(T v, int rank, WL_SITE) const {
    return move(v, lane_of(static_cast<unsigned>(rank) % size()), site);
  }
  template <class T>
  T shfl_down(T v, unsigned delta, WL_SITE) const {
    return move(v, thread_rank() + delta < size() ? lane_of(thread_rank() + delta) : wl::lane_number(), site);
  }
  template <class T>
  T shfl_up(T v, unsigned delta, WL_SITE) const {
    return move(v, thread_rank() >= delta ? lane_of(thread_rank() - delta) : wl::lane_number(), site);
  }
  template <class T>
  T shfl_xor(T v, unsigned mask, WL_SITE) const {
    const unsigned to = thread_rank() ^ mask;
    return move(v, to < size() ? lane_of(to) : wl::lane_number(), site);
  }
  int any(int p, WL_SITE) const { return __any_sync(mask_, p, site); }
  int all(int p, WL_SITE) const { return __all_sync(mask_, p, site); }
  unsigned ballot(int p, WL_SITE) const { return packed(__ballot_sync(mask_, p, site)); }
  template <class T>
  unsigned match_any(T v, WL_SITE) const {
    return packed(__match_any_sync(mask_, v, site));
  }
  unsigned wl_mask() const { return mask_; }

 protected:
  unsigned mask_;
  int lane_of(unsigned rank) const {
    unsigned rest = mask_;
    for (; rank; --rank) rest &= rest - 1;
    return __builtin_ctz(rest);
  }
  unsigned packed(unsigned lanes) const {  // by rank instead of by lane
    unsigned result = 0, bit = 1;
    for (unsigned rest = mask_; rest; rest &= rest - 1, bit <<= 1)
      if (lanes >> __builtin_ctz(rest) & 1u) result |= bit;
    return result;
  }
  template <class T>
  T move(T v, int lane, wl::Site site) const {
    if constexpr (sizeof(T) <= 8 && (sizeof(T) & (sizeof(T) - 1)) == 0) {
      return __shfl_sync(mask_, v, lane, 32, site);
    } else {  // larger values in words
      uint32_t words[(sizeof(T) + 3) / 4] = {};
      __builtin_memcpy(words, &v, sizeof(T));
      for (uint32_t& word : words) word = __shfl_sync(mask_, word, lane, 32, site);
      __builtin_memcpy(&v, words, sizeof(T));
      return v;
    }
  }
};

template <unsigned kSize, class Parent = void>
class thread_block_tile : public wl_lanes {
  static_assert(kSize >= 1 && kSize <= 32 && (kSize & (kSize - 1)) == 0,
                "the lab has tiles of up to a warp: 1, 2, 4, 8, 16 or 32 threads");

 public:
  thread_block_tile()
      : wl_lanes((kSize == 32 ? ~0u : (1u << (kSize & 31u)) - 1u) << (static_cast<unsigned>(wl::lane_number()) & ~(kSize - 1u))) {
  }
  template <class Other>
  thread_block_tile(const thread_block_tile<kSize, Other>& other) : wl_lanes(other.wl_mask()) {}
  static constexpr unsigned size() { return kSize; }
  static constexpr unsigned num_threads() { return kSize; }
  unsigned thread_rank() const { return static_cast<unsigned>(wl::lane_number()) & (kSize - 1u); }
  unsigned meta_group_rank() const { return thread_block().thread_rank() / kSize; }
  unsigned meta_group_size() const { return (thread_block().size() + kSize - 1) / kSize; }
};
template <unsigned kSize, class Group>
thread_block_tile<kSize, Group> tiled_partition(const Group&) {
  return {};
}

class coalesced_group : public wl_lanes {
 public:
  coalesced_group() : wl_lanes(1u << wl::lane_number()) {}
  explicit coalesced_group(unsigned mask) : wl_lanes(mask) {}
  unsigned meta_group_rank() const { return 0; }
};
inline coalesced_group coalesced_threads() { return {}; }

// The lanes of a group that have the same label.
template <class Group, class Label>
coalesced_group labeled_partition(const Group& group, Label label, WL_SITE) {
  return coalesced_group(__match_any_sync(group.wl_mask(), label, site));
}
template <class Group>
coalesced_group binary_partition(const Group& group, bool predicate, WL_SITE) {
  return labeled_partition(group, static_cast<int>(predicate), site);
}

// Any of them.
class thread_group {
 public:
  thread_group(const thread_block&) : kind_(kBlock), lanes_(1) {}
  thread_group(const grid_group&) : kind_(kGrid), lanes_(1) {}
  thread_group(const wl_lanes& lanes) : kind_(kLanes), lanes_(lanes) {}
  void sync(WL_SITE) const {
    if (kind_ == kBlock)
      thread_block().sync(site);
    else if (kind_ == kGrid)
      grid_group().sync(site);
    else
      lanes_.sync(site);
  }
  unsigned long long size() const {
    return kind_ == kBlock ? thread_block().size() : kind_ == kGrid ? grid_group().size() : lanes_.size();
  }
  unsigned long long num_threads() const { return size(); }
  unsigned long long thread_rank() const {
    return kind_ == kBlock ? thread_block().thread_rank() : kind_ == kGrid ? grid_group().thread_rank() : lanes_.thread_rank();
  }

 private:
  enum { kBlock, kGrid, kLanes } kind_;
  wl_lanes lanes_;
};
inline thread_group tiled_partition(const thread_group&, unsigned size) {
  return wl_lanes((size >= 32 ? ~0u : (1u << size) - 1u) << (static_cast<unsigned>(wl::lane_number()) & ~(size - 1u)));
}

template <class Group>
void sync(const Group& group, WL_SITE) {
  group.sync(site);
}
template <class Group>
unsigned long long thread_rank(const Group& group) {
  return group.thread_rank();
}
template <class Group>
unsigned long long group_size(const Group& group) {
  return group.size();
}

template <class T>
struct plus {
  T operator()(T a, T b) const { return a + b; }
};
template <class T>
struct less {
  T operator()(T a, T b) const { return b < a ? b : a; }
};
template <class T>
struct greater {
  T operator()(T a, T b) const { return a < b ? b : a; }
};
template <class T>
struct bit_and {
  T operator()(T a, T b) const { return a & b; }
};
template <class T>
struct bit_or {
  T operator()(T a, T b) const { return a | b; }
};
template <class T>
struct bit_xor {
  T operator()(T a, T b) const { return a ^ b; }
};
template <class Group, class T, class Op>
T reduce(const Group& group, T v, Op op, WL_SITE) {
  T sum = group.shfl(v, 0, site);
  for (unsigned i = 1; i < group.size(); ++i) sum = op(sum, group.shfl(v, static_cast<int>(i), site));
  return sum;
}
template <class Group, class T, class Op>
T inclusive_scan(const Group& group, T v, Op op, WL_SITE) {
  T sum = group.shfl(v, 0, site);
  for (unsigned i = 1; i < group.size(); ++i) {
    const T next = group.shfl(v, static_cast<int>(i), site);
    if (i <= group.thread_rank()) sum = op(sum, next);
  }
  return sum;
}
template <class Group, class T>
T inclusive_scan(const Group& group, T v, WL_SITE) {
  return inclusive_scan(group, v, plus<T>(), site);
}
template <class Group, class T>
T exclusive_scan(const Group& group, T v, WL_SITE) {
  const T sum = inclusive_scan(group, v, plus<T>(), site);
  return sum - v;
}

// Copies by the group: done when wait() has been called.
template <class Group, class T, class Size>
void memcpy_async(const Group& group, T* to, const T* from, Size bytes) {
  const size_t step = 4;
  for (size_t at = group.thread_rank() * step; at < static_cast<size_t>(bytes); at += group.size() * step)
    wl::async_copy(reinterpret_cast<char*>(to) + at, reinterpret_cast<const char*>(from) + at, 4, 4);
  wl::async_commit();
}
template <class Group>
void wait(const Group& group, WL_SITE) {
  wl::async_wait(0);
  group.sync(site);
}
template <unsigned kLeft, class Group>
void wait_prior(const Group& group, WL_SITE) {
  wl::async_wait(static_cast<int>(kLeft));
  group.sync(site);
}

}  // namespace cooperative_groups
