// upsample_weights/cpu.cpp - 3x3 taps to four phases of 2x2 taps on the host, and the adjoint; vectors along the innermost channels.
// A phase (i, j) is separable: its tap u adds the rows {0}, {1, 2} (i = 0) or {0, 1}, {2} (i = 1), and the same in columns.
#include "../maps_cpu.h"
#include "../preconditions.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

constexpr int first_tap(int phase, int u) { return u == 0 ? 0 : 1 + phase; }
constexpr int end_tap(int phase, int u) { return u == 0 ? phase + 1 : 3; }

// add(phase, tap of four, tap of nine) for every pair that belongs together, in a fixed order.
template <class Add>
WL_INLINE void for_taps(Add&& add) {
#pragma GCC unroll 4
  for (int p = 0; p < 4; ++p)
#pragma GCC unroll 4
    for (int uv = 0; uv < 4; ++uv)
      for (int k = first_tap(p / 2, uv / 2); k < end_tap(p / 2, uv / 2); ++k)
        for (int l = first_tap(p % 2, uv % 2); l < end_tap(p % 2, uv % 2); ++l) add(p, uv, 3 * k + l);
}

// T: a vector of neighbouring channels, or one float where taps are innermost. get(p) and put(p, value) access n of them.
template <class T, class Get, class Put>
WL_INLINE void one(bool adjoint, int64_t at, int64_t phase_at, int64_t tap, int64_t phase, Get&& get, Put&& put) {
  T nine[9] = {}, sixteen[16] = {};
  if (adjoint) {
    for (int t = 0; t < 16; ++t) sixteen[t] = get(phase_at + t / 4 * phase + t % 4 * tap);
    for_taps([&](int p, int uv, int t) { nine[t] += sixteen[4 * p + uv]; });
    for (int t = 0; t < 9; ++t) put(at + t * tap, nine[t]);
  } else {
    for (int t = 0; t < 9; ++t) nine[t] = get(at + t * tap);
    for_taps([&](int p, int uv, int t) { sixteen[4 * p + uv] += nine[t]; });
    for (int t = 0; t < 16; ++t) put(phase_at + t / 4 * phase + t % 4 * tap, sixteen[t]);
  }
}

void run(const UpsampleWeights& a, const Context&) {
  const float* x = a.x.ptr();
  float* y = a.y.ptr();
  const bool adjoint = a.adjoint != 0;
  const int64_t phase = 4 * a.C_out * a.C_in;
  if (a.layout == WeightLayout::oihw) {
    parallel_blocks(a.C_out * a.C_in, 2048, [=](int64_t begin, int64_t end, int) {
      for (int64_t pair = begin; pair < end; ++pair)
        one<float>(
            adjoint, 9 * pair, 4 * pair, 1, phase, [=](int64_t at) { return x[at]; }, [=](int64_t at, float v) { y[at] = v; });
    });
    return;
  }
  const bool ohwi = a.layout == WeightLayout::ohwi;
  const int64_t outer = ohwi ? a.C_out : a.C_in, inner = ohwi ? a.C_in : a.C_out;
  const int64_t step = ohwi ? 9 * a.C_in : a.C_out, phase_step = ohwi ? 4 * a.C_in : a.C_out;
  const int64_t tap = ohwi ? a.C_in : a.C_in * a.C_out;
  parallel_blocks(outer, std::max<int64_t>(1, 2048 / inner), [=](int64_t begin, int64_t end, int) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t i = 0; i < inner; i += kWidth) {
        const int n = static_cast<int>(std::min<int64_t>(kWidth, inner - i));
        one<vf>(
            adjoint, o * step + i, o * phase_step + i, tap, phase, [=](int64_t at) { return load_part(x + at, n); },
            [=](int64_t at, vf v) { store_part(y + at, v, n); });
      }
  });
}

}  // namespace

Entry<UpsampleWeights> upsample_weights() { return {run, upsample_weights_error, nullptr, nullptr}; }

}  // namespace warploom::cpu
