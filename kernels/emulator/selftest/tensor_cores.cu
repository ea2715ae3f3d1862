// tensor_cores.cu - mma, ldmatrix, cp.async and the roundings against values written down from the PTX manual; pipelines made of
// them that must raise no alarm, and broken ones, each stopped at the line marked FAULT.
#include "../../common/async_copy.cuh"
#include "../../common/tensor_core.cuh"
#include "selftest.h"

namespace warploom {
namespace selftest {

// ---- Rounding ----

__global__ void round_kernel(const float* x, uint32_t* out) {  // [n] -> [n][3]: bf16, f16, tf32
  const int i = threadIdx.x;
  out[3 * i] = pack2<Bf16>(x[i], 0.0f);
  out[3 * i + 1] = pack2<F16>(0.0f, x[i]) >> 16;
  out[3 * i + 2] = round_tf32(__float_as_uint(x[i]));
}
WL_CASE(primitive, round_to_operand_types) {
  struct Row {
    uint32_t x, bf16, f16, tf32;
  };
  const Row rows[] = {
      {0x3f800000u, 0x3f80u, 0x3c00u, 0x3f800000u},  // 1
      {0x3f808000u, 0x3f80u, 0x3c04u, 0x3f808000u},  // half an ulp of bf16 above 1: to even
      {0x3f818000u, 0x3f82u, 0x3c0cu, 0x3f818000u},
      {0x3f801000u, 0x3f80u, 0x3c00u, 0x3f802000u},  // half an ulp of f16 and tf32: to even, and away from zero
      {0xbf803000u, 0xbf80u, 0xbc02u, 0xbf804000u},
      {0x3f800fffu, 0x3f80u, 0x3c00u, 0x3f800000u},
      {0x477fe000u, 0x4780u, 0x7bffu, 0x477fe000u},  // 65504, the largest f16
      {0x477fefffu, 0x4780u, 0x7bffu, 0x477fe000u},
      {0x477ff000u, 0x4780u, 0x7c00u, 0x47800000u},  // 65520 rounds to infinity
      {0x33800000u, 0x3380u, 0x0001u, 0x33800000u},  // 2^-24, the smallest f16
      {0x33000000u, 0x3300u, 0x0000u, 0x33000000u},  // half of it: to even
      {0x33c00000u, 0x33c0u, 0x0002u, 0x33c00000u},  // one and a half: to even
      {0x387fe000u, 0x3880u, 0x0400u, 0x387fe000u},  // a subnormal f16 that rounds up to a normal one
      {0x7f7fffffu, 0x7f80u, 0x7c00u, 0x7f800000u},
      {0xff800000u, 0xff80u, 0xfc00u, 0xff800000u},
      {0x7fc00000u, 0x7fffu, 0x7fffu, 0x7fffffffu},
      {0x80000000u, 0x8000u, 0x8000u, 0x80000000u},
  };
  const int n = sizeof(rows) / sizeof(rows[0]);
  std::vector<float> x;
  for (const Row& r : rows) x.push_back(emulator::bits<float>(r.x));
  uint32_t* out = t.empty<uint32_t>(3 * n);
  launch(t.context, "round_kernel", round_kernel, 1, n, 0, t.upload(x), out);
  t.equal(
      out, 3 * n, [&](int i) { return i % 3 == 0   ? rows[i / 3].bf16
                                      : i % 3 == 1 ? rows[i / 3].f16
                                                   : rows[i / 3].tf32; },
      "rounded");
}

// ---- ldmatrix ----

// Matrix i, row r, element c holds 64 i + 8 r + c; lane 8i + r gives its row. out: [lane][register], the two elements decoded.
template <int kCount, bool kTransposed>
__global__ void load_matrices_kernel(uint32_t* out) {
  WL_SHARED(uint16_t, tile, [4][8][16]);  // rows 32 bytes apart, of which the second half is somebody else's
  const int lane = threadIdx.x;
  for (int c = 0; c < 16; ++c) tile[lane / 8][lane % 8][c] = static_cast<uint16_t>(c < 8 ? 8 * lane + c : 999);
  __syncwarp();
  uint32_t r[kCount];
  load_matrices<kCount, kTransposed>(r, &tile[lane % (8 * kCount) / 8][lane % 8][0]);
  for (int i = 0; i < kCount; ++i) out[lane * kCount + i] = r[i];
}
template <int kCount, bool kTransposed>
void check_load_matrices(Tester& t) {
  uint32_t* out = t.empty<uint32_t>(32 * kCount);
  launch(t.context, "load_matrices_kernel", load_matrices_kernel<kCount, kTransposed>, 1, 32, 0, out);
  t.equal(
      out, 32 * kCount,
      [](int at) {
        const uint32_t lane = at / kCount, i = at % kCount, g = lane / 4, c = 2 * (lane % 4);
        const uint32_t first = kTransposed ? 64 * i + 8 * c + g : 64 * i + 8 * g + c;
        return first | (first + (kTransposed ? 8 : 1)) << 16;
      },
      "ldmatrix x" + text(kCount) + (kTransposed ? " trans" : ""));
}
WL_CASE(primitive, load_matrices) {
  check_load_matrices<1, false>(t), check_load_matrices<2, false>(t), check_load_matrices<4, false>(t);
}
WL_CASE(primitive, load_matrices_transposed) {
  check_load_matrices<1, true>(t), check_load_matrices<2, true>(t), check_load_matrices<4, true>(t);
}

// ---- mma: one element of A (or B) is 1, all of the other operand are different: the results say where that element stands ----

constexpr uint32_t kOneBf16 = 0x3f80u, kOneF16 = 0x3c00u, kOneTf32 = 0x3f800000u;

template <class T>
__device__ uint32_t encode(int value) {  // small whole numbers, in the lower half where T has two bytes
  if constexpr (T::kBytes == 2) return pack2<T>(static_cast<float>(value), 0.0f);
  return __float_as_uint(static_cast<float>(value));
}

// With A all zero but one element, C's only row that is not zero is that element's, and equals row k of B. B is loaded by its
// documented layout with 1 + 8k + n.
template <class T, bool kHalfK>
__global__ void one_hot_kernel(int hot_lane, int hot_register, int hot_half, float* out) {  // out: [16][8]
  const int lane = threadIdx.x, g = lane / 4, c = lane % 4;
  uint32_t a[4] = {}, b[2];
  if (lane == hot_lane) a[hot_register] = encode<T>(1) << 16 * hot_half;
  for (int i = 0; i < 2; ++i) {
    if constexpr (T::kBytes == 2)
      b[i] = encode<T>(1 + 8 * (2 * c + 8 * i) + g) | encode<T>(1 + 8 * (2 * c + 8 * i + 1) + g) << 16;
    else
      b[i] = encode<T>(1 + 8 * (c + 4 * i) + g);
  }
  float sum[4] = {0.5f, 0.5f, 0.5f, 0.5f};
  if constexpr (kHalfK)
    mma_m16n8k8_f16(sum, a[0], a[1], b[0]);
  else
    mma<T>(sum, a, b);
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * c + i % 2] = sum[i];
}
struct Place {
  int lane, reg, half, m, k;
};
template <class T, bool kHalfK>
void check_places(Tester& t, const std::vector<Place>& places) {
  float* out = t.empty<float>(128);
  for (const Place& p : places) {
    launch(t.context, "one_hot_kernel", one_hot_kernel<T, kHalfK>, 1, 32, 0, p.lane, p.reg, p.half, out);
    t.equal(
        out, 128, [&](int i) { return 0.5f + (i / 8 == p.m ? static_cast<float>(1 + 8 * p.k + i % 8) : 0.0f); },
        "sum with A's lane " + text(p.lane) + " register " + text(p.reg));
  }
}
const std::vector<Place> kPlacesK16 = {{0, 0, 0, 0, 0},   {0, 0, 1, 0, 1},    {5, 0, 1, 1, 3},
                                       {5, 1, 0, 9, 2},   {31, 1, 1, 15, 7},  {6, 2, 0, 1, 12},
                                       {31, 2, 1, 7, 15}, {31, 3, 1, 15, 15}, {12, 3, 0, 11, 8}};
WL_CASE(primitive, mma_bf16_layout) { check_places<Bf16, false>(t, kPlacesK16); }
WL_CASE(primitive, mma_f16_layout) { check_places<F16, false>(t, kPlacesK16); }
WL_CASE(primitive, mma_f16_k8_layout) {
  check_places<F16, true>(t, {{0, 0, 0, 0, 0}, {0, 0, 1, 0, 1}, {31, 0, 1, 7, 7}, {5, 1, 0, 9, 2}, {30, 1, 1, 15, 5}});
}
WL_CASE(primitive, mma_tf32_layout) {
  check_places<Tf32, false>(t, {{0, 0, 0, 0, 0}, {5, 0, 0, 1, 1}, {5, 1, 0, 9, 1}, {6, 2, 0, 1, 6}, {31, 3, 0, 15, 7}});
}

// ---- Whole products through ldmatrix: A [16][K] along k, B [8][K] along k (plain) or [K][8] (transposed) ----

template <class T, bool kTransposedB>
__global__ void product_kernel(const float* a, const float* b, float* out) {
  constexpr int K = 32 / T::kBytes;
  WL_SHARED(uint32_t, tile_a, [16][8]);
  WL_SHARED(uint32_t, tile_b, [16][8]);
  const int lane = threadIdx.x;
  for (int i = lane; i < 128; i += 32) {
    const int row = i / 8, word = i % 8;
    if constexpr (T::kBytes == 2) {
      tile_a[row][word] = pack2<T>(a[row * K + 2 * word], a[row * K + 2 * word + 1]);
      if (!kTransposedB && row < 8) tile_b[row][word] = pack2<T>(b[2 * word * 8 + row], b[(2 * word + 1) * 8 + row]);
      if (kTransposedB && word < 4) tile_b[row][word] = pack2<T>(b[row * 8 + 2 * word], b[row * 8 + 2 * word + 1]);
    } else {
      tile_a[row][word] = round_tf32(__float_as_uint(a[row * K + word]));
      if (row < 8) tile_b[row][word] = round_tf32(__float_as_uint(b[word * 8 + row]));
    }
  }
  __syncwarp();
  uint32_t fa[4], fb[2];
  load_matrices<4, false>(fa, &tile_a[lane % 16][lane / 16 * 4]);
  if constexpr (kTransposedB)
    load_matrices<2, true>(fb, &tile_b[lane % 16][0]);
  else
    load_matrices<2, false>(fb, &tile_b[lane % 8][lane / 8 % 2 * 4]);
  float sum[4] = {};
  mma<T>(sum, fa, fb);
  for (int i = 0; i < 4; ++i) out[(lane / 4 + i / 2 * 8) * 8 + 2 * (lane % 4) + i % 2] = sum[i];
}
template <class T, bool kTransposedB>
void check_product(Tester& t) {
  constexpr int K = 32 / T::kBytes;
  std::vector<float> a(16 * K), b(K * 8);
  for (int i = 0; i < 16 * K; ++i) a[i] = static_cast<float>((i * 37 + i / 11) % 29 - 14);
  for (int i = 0; i < K * 8; ++i) b[i] = static_cast<float>((i * 23 + i / 7) % 31 - 15);
  float* out = t.empty<float>(128);
  launch(t.context, "product_kernel", product_kernel<T, kTransposedB>, 1, 32, 0, t.upload(a), t.upload(b), out);
  t.equal(
      out, 128,
      [&](int i) {
        float sum = 0.0f;
        for (int k = 0; k < K; ++k) sum += a[i / 8 * K + k] * b[k * 8 + i % 8];
        return sum;
      },
      "product");
}
WL_CASE(primitive, mma_products) {
  check_product<Bf16, false>(t), check_product<Bf16, true>(t), check_product<F16, false>(t), check_product<F16, true>(t);
  check_product<Tf32, false>(t);
}

// ---- cp.async ----

__global__ void copy_kernel(const float* x, int n, float* out) {  // 16 and 4 bytes, zeros outside
  WL_SHARED(float4, wide, [32]);
  WL_SHARED(float, narrow, [32]);
  const int i = threadIdx.x;
  copy_async<16>(&wide[i], x + 4 * i, 4 * i < n);
  copy_async<4>(&narrow[i], x + i + 1, i + 1 < n);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  const float4 v = wide[31 - i];
  out[5 * i] = v.x, out[5 * i + 1] = v.y, out[5 * i + 2] = v.z, out[5 * i + 3] = v.w, out[5 * i + 4] = narrow[31 - i];
}
WL_CASE(primitive, copies_land) {
  std::vector<float> x;
  for (int i = 0; i < 20; ++i) x.push_back(static_cast<float>(i + 1));
  float* out = t.empty<float>(160);
  launch(t.context, "copy_kernel", copy_kernel, 1, 32, 0, t.upload(x), 20, out);
  t.equal(
      out, 160,
      [](int at) {
        const int i = 31 - at / 5, from = at % 5 < 4 ? 4 * i + at % 5 : i + 1;
        return from < 20 ? static_cast<float>(from + 1) : 0.0f;
      },
      "copied");
}

__global__ void order_of_groups_kernel(const float* x, float* out) {  // three groups; after wait<1> the first two are there
  WL_SHARED(float, stage, [3][32]);
  const int i = threadIdx.x;
  for (int s = 0; s < 3; ++s) {
    copy_async<4>(&stage[s][i], x + 32 * s + i, true);
    commit_copies();
  }
  wait_copies<1>();
  out[i] = stage[0][i] + stage[1][i];
  wait_copies<0>();
  out[32 + i] = stage[2][i];
}
WL_CASE(primitive, copies_land_by_group) {
  std::vector<float> x;
  for (int i = 0; i < 96; ++i) x.push_back(static_cast<float>(i));
  float* out = t.empty<float>(64);
  launch(t.context, "order_of_groups_kernel", order_of_groups_kernel, 1, 32, 0, t.upload(x), out);
  t.equal(out, 64, [](int i) { return static_cast<float>(i < 32 ? 2 * i + 32 : i + 32); }, "landed");
}

// A pipeline as the kernels build it: kStages stages, one barrier a step.
template <int kStages>
__global__ void pipeline_kernel(const float* x, int steps, float* out) {
  WL_SHARED(float, stage, [kStages][64]);
  const int i = threadIdx.x;
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) copy_async<4>(&stage[s][i], x + 64 * s + i, true);
    commit_copies();
  }
  float sum = 0.0f;
  for (int s = 0; s < steps; ++s) {
    wait_copies<kStages - 2>();
    __syncthreads();
    const int ahead = s + kStages - 1;
    if (ahead < steps) copy_async<4>(&stage[ahead % kStages][i], x + 64 * ahead + i, true);
    commit_copies();
    sum += stage[s % kStages][63 - i];
  }
  out[i] = sum;
}
WL_CASE(correct, copy_pipeline) {
  std::vector<float> x;
  for (int i = 0; i < 64 * 7; ++i) x.push_back(static_cast<float>(i % 64 + 100 * (i / 64)));
  float* out = t.empty<float>(64);
  const float* in = t.upload(x);
  for (int steps : {1, 2, 7}) {
    launch(t.context, "pipeline_kernel", pipeline_kernel<3>, 1, 64, 0, in, steps, out);
    t.equal(out, 64, [&](int i) { return static_cast<float>(steps * (63 - i) + 50 * steps * (steps - 1)); }, "sum");
    launch(t.context, "pipeline_kernel", pipeline_kernel<4>, 1, 64, 0, in, steps, out);
    t.equal(out, 64, [&](int i) { return static_cast<float>(steps * (63 - i) + 50 * steps * (steps - 1)); }, "sum");
  }
}

// What nobody waited for is NaN, on the fast build too.
__global__ void early_read_kernel(const float* x, float* out) {
  WL_SHARED(float, s, [32]);
  copy_async<4>(&s[threadIdx.x], x + threadIdx.x, true);
  commit_copies();
  out[threadIdx.x] = s[threadIdx.x];
  wait_copies<0>();
}

#if !defined(WARPLOOM_EMULATOR_CHECKED)
WL_CASE(primitive, copies_read_early_are_nan) {
  float* out = t.empty<float>(32);
  launch(t.context, "early_read_kernel", early_read_kernel, 1, 32, 0, t.upload(std::vector<float>(32, 1.0f)), out);
  for (const float v : t.download(out, 32)) t.require(v != v, "a copy that nobody waited for was " + text(v) + ", expected NaN");
}
#else

#define BROKEN(name, grid, block, ...) launch(t.context, #name "_kernel", name##_kernel, grid, block, 0, __VA_ARGS__)
inline const float* ones(Tester& t) { return t.upload(std::vector<float>(256, 1.0f)); }

__global__ void copy_without_wait_kernel(const float* x, float* out) {
  WL_SHARED(float, s, [32]);
  copy_async<4>(&s[threadIdx.x], x + threadIdx.x, true);
  commit_copies();
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];  // FAULT: copy_without_wait
}
WL_CASE(broken, copy_without_wait) { BROKEN(copy_without_wait, 1, 32, ones(t), t.empty<float>(32)); }

__global__ void copy_without_commit_kernel(const float* x, float* out) {
  WL_SHARED(float, s, [32]);
  copy_async<4>(&s[threadIdx.x], x + threadIdx.x, true);
  wait_copies<0>();
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];  // FAULT: copy_without_commit
}
WL_CASE(broken, copy_without_commit) { BROKEN(copy_without_commit, 1, 32, ones(t), t.empty<float>(32)); }

__global__ void wait_for_too_few_kernel(const float* x, float* out) {
  WL_SHARED(float, s, [2][32]);
  for (int i = 0; i < 2; ++i) {
    copy_async<4>(&s[i][threadIdx.x], x + threadIdx.x, true);
    commit_copies();
  }
  wait_copies<1>();
  __syncthreads();
  out[threadIdx.x] = s[0][threadIdx.x] + s[1][threadIdx.x];  // FAULT: wait_for_too_few
}
WL_CASE(broken, wait_for_too_few) { BROKEN(wait_for_too_few, 1, 32, ones(t), t.empty<float>(32)); }

__global__ void copy_without_barrier_kernel(const float* x, float* out) {  // waiting makes only one's own copies visible
  WL_SHARED(float, s, [64]);
  copy_async<4>(&s[threadIdx.x], x + threadIdx.x, true);
  commit_copies();
  wait_copies<0>();                        // FAULT: copy_without_barrier
  out[threadIdx.x] = s[63 - threadIdx.x];  // FAULT: copy_without_barrier
}
WL_CASE(broken, copy_without_barrier) { BROKEN(copy_without_barrier, 1, 64, ones(t), t.empty<float>(64)); }

__global__ void copy_into_read_stage_kernel(const float* x, float* out) {  // the next copy overtakes reads of the same stage
  WL_SHARED(float, s, [64]);
  float sum = 0.0f;
  for (int i = 0; i < 2; ++i) {
    copy_async<4>(&s[threadIdx.x], x + 64 * i + threadIdx.x, true);  // FAULT: copy_into_read_stage
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    sum += s[63 - threadIdx.x];  // FAULT: copy_into_read_stage
  }
  out[threadIdx.x] = sum;
}
WL_CASE(broken, copy_into_read_stage) { BROKEN(copy_into_read_stage, 1, 64, ones(t), t.empty<float>(64)); }

__global__ void copy_past_the_end_kernel(const float* x, float* out) {
  WL_SHARED(float4, s, [32]);
  copy_async<16>(&s[threadIdx.x], x + 4 * threadIdx.x + 132, true);  // FAULT: copy_past_the_end
  commit_copies();
  wait_copies<0>();
  out[threadIdx.x] = s[threadIdx.x].x;
}
WL_CASE(broken, copy_past_the_end) { BROKEN(copy_past_the_end, 1, 32, ones(t), t.empty<float>(32)); }

__global__ void copy_misaligned_kernel(const float* x, float* out) {
  WL_SHARED(float4, s, [32]);
  copy_async<16>(&s[threadIdx.x], x + 4 * threadIdx.x + 2, true);  // FAULT: copy_misaligned
  commit_copies();
  wait_copies<0>();
  out[threadIdx.x] = s[threadIdx.x].x;
}
WL_CASE(broken, copy_misaligned) { BROKEN(copy_misaligned, 1, 32, ones(t), t.empty<float>(32)); }

__global__ void matrices_without_barrier_kernel(uint32_t* out) {  // the rows come from the other warp
  WL_SHARED(float4, s, [2][32]);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  s[warp][lane] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);  // FAULT: matrices_without_barrier
  uint32_t r[4];
  load_matrices<4, false>(r, &s[1 - warp][lane]);  // FAULT: matrices_without_barrier
  out[threadIdx.x] = r[0];
}
WL_CASE(broken, matrices_without_barrier) { BROKEN(matrices_without_barrier, 1, 64, t.empty<uint32_t>(64)); }

__global__ void matrices_misaligned_kernel(uint32_t* out) {
  WL_SHARED(uint32_t, s, [36][4]);
  for (int i = threadIdx.x; i < 144; i += 32) s[i / 4][i % 4] = 0;
  __syncthreads();
  uint32_t r[2];
  load_matrices<2, false>(r, &s[threadIdx.x][2]);  // FAULT: matrices_misaligned
  out[threadIdx.x] = r[0];
}
WL_CASE(broken, matrices_misaligned) { BROKEN(matrices_misaligned, 1, 32, t.empty<uint32_t>(32)); }
#endif

__global__ void half_a_warp_multiplies_kernel(float* out) {
  const uint32_t a[4] = {}, b[2] = {};
  float sum[4] = {};
  if (threadIdx.x < 16) mma<Bf16>(sum, a, b);
  out[threadIdx.x] = sum[0];
}
WL_CASE(primitive, half_a_warp_multiplies) {
  t.must_throw("need all 32 lanes", [&] {
    launch(t.context, "half_a_warp_multiplies_kernel", half_a_warp_multiplies_kernel, 1, 32, 0, t.empty<float>(32));
  });
}

}  // namespace selftest
}  // namespace warploom
