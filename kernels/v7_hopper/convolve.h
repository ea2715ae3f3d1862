// convolve.h - inside v7: what its two entries share. Host code only.
#pragma once

#include "choice.h"

namespace warploom::v7 {

struct Call {  // the buffers of a Problem
  const float* source = nullptr;
  const float* w = nullptr;
  const float* scale = nullptr;     // of a gradient as fp16
  unsigned char* packed = nullptr;  // packed_bytes()
  unsigned char* codes = nullptr;
  float* out = nullptr;
  Epilogue epilogue;
  bool pool = false;
};

inline const char* algorithm_name(Precision p) {
  return p == Precision::tf32 ? "wgmma m64 k8 tf32" : p == Precision::bf16 ? "wgmma m64 k16 bf16" : "wgmma m64 k16 fp16";
}

// run(operand type) for the precision asked for.
template <class Run>
void with_operand_type(Precision p, Run run) {
  if (p == Precision::tf32) return run(Tf32());
  if (p == Precision::bf16) return run(Bf16());
  run(F16());
}

// Packs the weights and describes the source to the copy engine.
template <class T>
TensorMap prepare(const Context& context, const Problem& p, const Call& call) {
  const HaloGemm& g = p.g;
  pack_weights<T>(context, p.form, g, p.columns, call.w, call.packed);
  return tensor_map(call.source, {g.k_channels, p.src_W, p.src_H, g.N}, {kUnit, g.halo_w, g.halo_h, g.box_n});
}

template <class T>
void convolve_transposed(const Context& context, const Problem& p, const Call& call);  // conv2d_backward_input.cu

}  // namespace warploom::v7
