// convolve.h - inside v7: what its two entries share. Host code only.
#pragma once

#include "../v6_bilinear/table.h"
#include "choice.h"

namespace warploom::v7 {

struct Call {  // the buffers of a Problem
  const void* source = nullptr;
  const float* scale = nullptr;           // of a gradient as fp16
  const unsigned char* packed = nullptr;  // the prepared weights
  unsigned char* codes = nullptr;         // of out, or of the source
  void* out = nullptr;
  Epilogue epilogue;
  bool pool = false;  // of out, or of the source
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

// The map [size[3]] ... [size[0]] in boxes of a halo, or of a unit; its codes always in those. every: tensor_map().
inline TensorMap box_map(const Halo& h, const void* data, const int (&size)[4], int every = 1) {
  if (h.direct) return tensor_map(static_cast<const uint16_t*>(data), size, {kRowBytes / 2, h.pitch, h.h, h.images}, true, every);
  const int unit[4] = {unit_channels(h), h.unit_w, h.unit_h, h.images};
  return h.bytes == 2 ? tensor_map(static_cast<const uint16_t*>(data), size, unit, false, every)
                      : tensor_map(static_cast<const float*>(data), size, unit, false, every);
}
// size: of a phase.
inline PhaseMaps phase_maps(const Halo& h, const void* data, const int (&size)[4]) {
  PhaseMaps maps;
  for (int phase = 0; phase < 4; ++phase) {
    const int64_t first = (int64_t(phase / 2) * 2 * size[1] + phase % 2) * size[0];
    maps.of[phase] = box_map(h, into_map(data, first, h.bytes), size, 2);
  }
  return maps;
}
inline TensorMap codes_map(const Halo& h, const unsigned char* codes, const int (&size)[4]) {
  return tensor_map(codes, size, {unit_channels(h), h.unit_w, h.unit_h, h.images});
}

inline TensorMap source_map(const Problem& p, const Call& call) {
  return box_map(p.g.halo, call.source, {p.g.k_channels, p.src_W, p.src_H, p.g.N});
}

// Those that a step before has left, or made in the workspace, behind so many bytes of it.
template <class Args>
const unsigned char* prepared_weights(const Problem& p, const Args& a, const Context& context, int64_t before) {
  if (a.prepared) return a.prepared.template ptr<unsigned char>();
  Errand e = preparation_of(p, a);
  e.to.data = context.workspace.ptr<unsigned char>() + before;
  v6::table().run_errands(&e, 1, nullptr, context);
  return e.to.ptr<unsigned char>();
}

// The copy engine reads what begins at 16 bytes. A call that was given something to read or to fill in v7's own form cannot become v6's.
inline void require_aligned(const void* given) {
  if (given) throw DeviceError("v7 reads arrays that begin at a multiple of 16 bytes; copy them, or leave out what was prepared");
}

template <class T>
void convolve_transposed(const Context& context, const Problem& p, const Call& call);  // conv2d_backward_input.cu

}  // namespace warploom::v7
