// warps.cu - every warp operation against values written down from CUDA's documentation.
#include "selftest.h"

namespace warploom {
namespace selftest {

template <class T>
T lane_value(int lane) {
  return static_cast<T>(100 + 3 * lane);
}
inline std::string label(const char* what, int a, int width) {
  return std::string(what) + " " + text(a) + " width " + text(width);
}

template <class T>
__global__ void shuffle_kernel(T* out, int kind, int argument, int width) {
  const int lane = threadIdx.x;
  const T v = static_cast<T>(100 + 3 * lane);
  T r = v;
  if (kind == 0) r = __shfl_sync(0xffffffffu, v, argument, width);
  if (kind == 1) r = __shfl_up_sync(0xffffffffu, v, argument, width);
  if (kind == 2) r = __shfl_down_sync(0xffffffffu, v, argument, width);
  if (kind == 3) r = __shfl_xor_sync(0xffffffffu, v, argument, width);
  out[lane] = r;
}

template <class T>
void shuffles(Tester& t) {
  T* out = t.empty<T>(32);
  for (int width : {32, 16, 8, 4, 2, 1}) {
    for (int a : {0, 1, 2, 3, 5, 7, 15, 16, 31, 33}) {
      launch(t.context, "shuffle_kernel", shuffle_kernel<T>, 1, 32, 0, out, 0, a, width);
      t.equal(out, 32, [&](int l) { return lane_value<T>(l / width * width + a % width); }, label("__shfl_sync", a, width));
      if (a > 31) continue;
      launch(t.context, "shuffle_kernel", shuffle_kernel<T>, 1, 32, 0, out, 1, a, width);
      t.equal(out, 32, [&](int l) { return lane_value<T>(l % width >= a ? l - a : l); }, label("__shfl_up_sync", a, width));
      launch(t.context, "shuffle_kernel", shuffle_kernel<T>, 1, 32, 0, out, 2, a, width);
      t.equal(
          out, 32, [&](int l) { return lane_value<T>(l % width + a < width ? l + a : l); }, label("__shfl_down_sync", a, width));
      launch(t.context, "shuffle_kernel", shuffle_kernel<T>, 1, 32, 0, out, 3, a, width);
      // Earlier segments may be read, later ones may not.
      t.equal(
          out, 32, [&](int l) { return lane_value<T>((l ^ a) / width <= l / width ? l ^ a : l); },
          label("__shfl_xor_sync", a, width));
    }
  }
}
WL_CASE(primitive, shuffle_int) { shuffles<int>(t); }
WL_CASE(primitive, shuffle_unsigned) { shuffles<unsigned>(t); }
WL_CASE(primitive, shuffle_float) { shuffles<float>(t); }
WL_CASE(primitive, shuffle_double) { shuffles<double>(t); }
WL_CASE(primitive, shuffle_64_bits) { shuffles<long long>(t); }

__global__ void wide_values_kernel(unsigned long long* out) {
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 0x0123456789abcdefull * (threadIdx.x + 1), 1);
}
WL_CASE(primitive, shuffle_keeps_64_bits) {
  auto* out = t.empty<unsigned long long>(32);
  launch(t.context, "wide_values_kernel", wide_values_kernel, 1, 32, 0, out);
  t.equal(out, 32, [](int l) { return 0x0123456789abcdefull * static_cast<unsigned>((l ^ 1) + 1); }, "value");
}

__global__ void half_warps_kernel(int* out) {
  const unsigned lane = threadIdx.x % 32, mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  int v = threadIdx.x;
  for (int step = 8; step > 0; step /= 2) v += __shfl_xor_sync(mask, v, step);
  out[threadIdx.x] = v;
}
WL_CASE(primitive, shuffle_partial_masks) {
  int* out = t.empty<int>(64);
  launch(t.context, "half_warps_kernel", half_warps_kernel, 1, 64, 0, out);
  t.equal(out, 64, [](int i) { return 16 * (i / 16 * 16) + 120; }, "sum of a half-warp");
}

__global__ void branch_kernel(int* out) {  // each side of the branch has its own mask, and another operation
  const unsigned odd = threadIdx.x & 1u;
  if (odd)
    out[threadIdx.x] = __shfl_sync(0xaaaaaaaau, static_cast<int>(threadIdx.x), 31);
  else
    out[threadIdx.x] = static_cast<int>(__ballot_sync(0x55555555u, threadIdx.x < 8));
}
WL_CASE(primitive, divergent_groups) {
  int* out = t.empty<int>(32);
  launch(t.context, "branch_kernel", branch_kernel, 1, 32, 0, out);
  t.equal(out, 32, [](int i) { return i & 1 ? 31 : 0x55; }, "value");
}

__global__ void short_warp_kernel(int* out) {
  int v = 1;
  for (int step = 16; step > 0; step /= 2) {
    const int other = __shfl_down_sync(0xffffffffu, v, step);
    if (threadIdx.x % 32 + step < (threadIdx.x < 32 ? 32 : blockDim.x - 32)) v += other;
  }
  out[threadIdx.x] = v;
}
WL_CASE(primitive, incomplete_warp) {  // 40 threads: the second warp has 8 lanes, the mask names 32
  int* out = t.empty<int>(40);
  launch(t.context, "short_warp_kernel", short_warp_kernel, 1, 40, 0, out);
  const auto got = t.download(out, 40);
  t.require(got[0] == 32 && got[32] == 8, "sums are " + text(got[0]) + " and " + text(got[32]) + ", expected 32 and 8");
}

__global__ void exited_lanes_kernel(int* out) {
  if (threadIdx.x >= 20) return;
  out[threadIdx.x] = __popc(__ballot_sync(0xffffffffu, 1));
}
WL_CASE(primitive, exited_lanes_do_not_vote) {
  int* out = t.empty<int>(20);
  launch(t.context, "exited_lanes_kernel", exited_lanes_kernel, 1, 32, 0, out);
  t.equal(out, 20, [](int) { return 20; }, "votes");
}

__global__ void vote_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x, full = 0xffffffffu;
  unsigned* o = out + lane * 12;
  o[0] = __ballot_sync(full, lane % 3 == 0);
  o[1] = static_cast<unsigned>(__any_sync(full, lane == 7)) * 10u + static_cast<unsigned>(__any_sync(full, lane > 31));
  o[2] = static_cast<unsigned>(__all_sync(full, lane < 32)) * 10u + static_cast<unsigned>(__all_sync(full, lane != 7));
  o[3] = __match_any_sync(full, lane / 4);
  int equal = 5;
  o[4] = __match_all_sync(full, 42.0f, &equal) + static_cast<unsigned>(equal);
  o[5] = __match_all_sync(full, lane, &equal) + static_cast<unsigned>(equal);
  o[6] = static_cast<unsigned>(__reduce_add_sync(full, static_cast<int>(lane) - 20));
  o[7] = static_cast<unsigned>(__reduce_min_sync(full, static_cast<int>(lane) - 20));
  o[8] = __reduce_max_sync(full, lane - 20u);
  o[9] = static_cast<unsigned>(__reduce_max_sync(full, static_cast<int>(lane) - 20));
  o[10] = __reduce_and_sync(full, lane | 64u) + 1000u * __reduce_or_sync(full, lane);
  o[11] = __reduce_xor_sync(full, lane * 5u) + 1000u * ((__activemask() >> lane) & 1u);
}
WL_CASE(primitive, votes_matches_reductions) {
  unsigned* out = t.empty<unsigned>(32 * 12);
  launch(t.context, "vote_kernel", vote_kernel, 1, 32, 0, out);
  unsigned thirds = 0, folded = 0;
  for (unsigned l = 0; l < 32; ++l) thirds |= (l % 3 == 0 ? 1u : 0u) << l, folded ^= l * 5u;
  t.equal(
      out, 32 * 12,
      [&](int i) -> unsigned {
        const int lane = i / 12;
        switch (i % 12) {
          case 0:
            return thirds;
          case 1:
            return 10u;
          case 2:
            return 10u;
          case 3:
            return 0xfu << (lane / 4 * 4);
          case 4:
            return 0xffffffffu + 1u;
          case 5:
            return 0u;
          case 6:
            return static_cast<unsigned>(31 * 32 / 2 - 20 * 32);
          case 7:
            return static_cast<unsigned>(-20);
          case 8:
            return static_cast<unsigned>(-1);
          case 9:
            return 11u;
          case 10:
            return 64u + 31000u;
          default:
            return folded + 1000u;
        }
      },
      "vote");
}

__global__ void warp_exchange_kernel(int* out) {  // shared memory, one warp, no block barrier
  WL_SHARED(int, box, [2][32]);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int v = threadIdx.x;
  for (int round = 0; round < 3; ++round) {
    box[warp][lane] = v;
    __syncwarp();
    v = box[warp][31 - lane] + 1;
    __syncwarp();
  }
  out[threadIdx.x] = v;
}
WL_CASE(primitive, syncwarp_exchange) {
  int* out = t.empty<int>(64);
  launch(t.context, "warp_exchange_kernel", warp_exchange_kernel, 1, 64, 0, out);
  t.equal(out, 64, [](int i) { return i / 32 * 32 + 31 - i % 32 + 3; }, "value");
}

__global__ void half_exchange_kernel(int* out) {  // __syncwarp of half-warps orders only within the halves
  WL_SHARED(int, box, [32]);
  const unsigned lane = threadIdx.x, mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  box[lane] = static_cast<int>(lane);
  __syncwarp(mask);
  int sum = 0;
  for (int k = 0; k < 16; ++k) sum += box[lane / 16 * 16 + k];
  __syncwarp(mask);
  if (lane % 16 == 0) box[lane] = sum;
  __syncwarp(mask);
  out[lane] = box[lane / 16 * 16];
}
WL_CASE(primitive, syncwarp_partial_masks) {
  int* out = t.empty<int>(32);
  launch(t.context, "half_exchange_kernel", half_exchange_kernel, 1, 32, 0, out);
  t.equal(out, 32, [](int i) { return i < 16 ? 120 : 376; }, "sum");
}

}  // namespace selftest
}  // namespace warploom
