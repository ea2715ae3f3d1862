// correlation.h - forward and input gradient of a convolution as one operation: a correlation of NCHW maps.
//
// Target pixel t of phase p (t = i * phases + p) is the sum over source channels and taps a of source[i * step + origin + a] * w[tap].
//   forward           one phase, step = stride, origin = -pad; taps in order
//   input gradient    step 1, a phase per residue modulo the stride: only every stride-th tap reaches such a pixel, and in reverse
// So a strided convolution's input gradient is stride_h * stride_w ordinary correlations, none of which multiplies by zeros.
#pragma once

#include "../common/epilogue.cuh"
#include "../common/portable.cuh"

namespace warploom::v3 {

struct Correlation {
  int N = 0, groups = 1;
  int source_channels = 0, target_channels = 0;  // per group
  int source_h = 0, source_w = 0, target_h = 0, target_w = 0;
  int KH = 0, KW = 0;
  int step_h = 1, step_w = 1, phases_h = 1, phases_w = 1;
  int pad_h = 0, pad_w = 0;                                        // the convolution's top and left padding
  bool backward = false;                                           // taps reversed and spread over the phases
  int64_t weight_group = 0, weight_target = 0, weight_source = 0;  // strides of w in elements; taps are contiguous
};

inline Correlation forward_correlation(const Conv2dShape& s) {
  Correlation c;
  c.N = s.N, c.groups = s.groups;
  c.source_channels = s.C_in / s.groups, c.target_channels = s.C_out / s.groups;
  c.source_h = s.H, c.source_w = s.W, c.target_h = s.OH, c.target_w = s.OW;
  c.KH = s.KH, c.KW = s.KW, c.step_h = s.stride_h, c.step_w = s.stride_w, c.pad_h = s.pad_top, c.pad_w = s.pad_left;
  c.weight_source = int64_t(s.KH) * s.KW, c.weight_target = c.weight_source * c.source_channels;
  c.weight_group = c.weight_target * c.target_channels;
  return c;
}

inline Correlation backward_correlation(const Conv2dShape& s) {
  Correlation c;
  c.N = s.N, c.groups = s.groups, c.backward = true;
  c.source_channels = s.C_out / s.groups, c.target_channels = s.C_in / s.groups;
  c.source_h = s.OH, c.source_w = s.OW, c.target_h = s.H, c.target_w = s.W;
  c.KH = s.KH, c.KW = s.KW, c.phases_h = s.stride_h, c.phases_w = s.stride_w, c.pad_h = s.pad_top, c.pad_w = s.pad_left;
  c.weight_target = int64_t(s.KH) * s.KW, c.weight_source = c.weight_target * c.target_channels;
  c.weight_group = c.weight_source * c.source_channels;
  return c;
}

// One dimension of one phase.
struct PhaseAxis {
  int taps, origin, first_tap, tap_step, count;  // tap a is w[first_tap + tap_step * a]; count target pixels
};

__host__ __device__ inline PhaseAxis phase_axis(bool backward, int K, int pad, int phases, int phase, int target) {
  PhaseAxis x;
  x.count = target > phase ? (target - phase + phases - 1) / phases : 0;
  if (!backward) {
    x.taps = K, x.origin = -pad, x.first_tap = 0, x.tap_step = 1;
    return x;
  }
  const int residue = (phase + pad) % phases;  // taps residue, residue + phases, ... reach this phase
  x.taps = K > residue ? (K - residue + phases - 1) / phases : 0;
  x.origin = (phase + pad - residue) / phases - (x.taps - 1);
  x.first_tap = residue + phases * (x.taps - 1), x.tap_step = -phases;
  return x;
}

// Whether the correlation fits the shared memory of a block at all.
bool correlation_fits(const Correlation& c);
void correlate(const Correlation& c, const float* source, const float* w, const Epilogue& epilogue, float* target,
               const Context& context);
// The 3x3 special case: one phase, step 1.
void correlate_3x3(const Correlation& c, const float* source, const float* w, const Epilogue& epilogue, float* target,
                   const Context& context);

}  // namespace warploom::v3
