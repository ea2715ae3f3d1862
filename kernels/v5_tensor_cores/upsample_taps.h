// upsample_taps.h - inside v5: a 3x3 convolution of an image upsampled by 2 as a transposed 4x4 convolution of stride 2 of the small
// image, whose taps are sums of the nine: 4 products an output instead of 9, and the gradients alike. Host code only.
#pragma once

#include "../common/epilogue.cuh"
#include "choice.h"
#include "entries.h"
#include "table.h"

namespace warploom::v5 {

// The strided convolution of y's map of which the upsampling one is the adjoint: its input is our output.
inline Conv2dShape adjoint_of(const Conv2dShape& s) {
  Conv2dShape t = s;
  t.C_in = s.C_out, t.C_out = s.C_in;
  t.KH = t.KW = 4, t.stride_h = t.stride_w = 2;
  t.OH = s.H / 2, t.OW = s.W / 2;
  return t;
}
// Of which nothing but the precision is left. x, y: how our maps are stored, in whose place its own stand.
inline Fusion adjoint_of(const Fusion& f, DType x, DType y) {
  Fusion plain;
  plain.precision = f.precision;
  plain.x_type = y, plain.y_type = x;
  return plain;
}
template <class Args>
std::string summed_taps_refusal(const Args& a) {
  return sums_taps(a.s, a.fusion)
             ? ""
             : "taps are summed of a 3x3 convolution with padding 1 of an image upsampled by 2, without a pool";
}
inline int64_t summed_bytes(const Conv2dShape& s) { return int64_t(16) * s.C_in * s.C_out * 4; }

// w hwio [3, 3, C_in, C_out] -> summed hwio of the adjoint [4, 4, C_out, C_in], in float32.
template <class Args>
Errand summing_of(const Args& a) {
  Errand e;
  e.kind = ErrandKind::sum_taps;
  e.n = a.s.C_out, e.k = a.s.C_in;
  e.from = a.w;
  e.to.bytes = summed_bytes(a.s);
  return e;
}
template <class Args>
int64_t summing_bytes(const Args& a) {  // of the workspace
  return a.prepared ? 0 : summed_bytes(a.s);
}
template <class Args>
In summed_taps(const Args& a, const Context& context) {
  if (a.prepared) return a.prepared;
  Errand e = summing_of(a);
  e.to.data = context.workspace.data;
  run_errands(&e, 1, nullptr, context);
  return {e.to.data, e.to.bytes};
}

// The entries' kernels with their roles exchanged: maps are stored as fusion says, gradients or not; the weights of both are `summed`.
// scale: of a gradient as fp16, else null.
void run_transposed(const Conv2dBackwardInput& a, const Context& context, const Epilogue& epilogue);
void run_strided(const Conv2dForward& a, const Context& context, const Epilogue& epilogue, const float* scale);

}  // namespace warploom::v5
