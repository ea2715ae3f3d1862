// few_outputs.h - inside v5: convolutions that compute at most 4 channels from many (few_outputs.cu); few_channels.h: many from
// few. Host code only.
#pragma once

#include "choice.h"

namespace warploom::v5 {

// Whether each tap of each output becomes a column of one product. The tile of 16 channels reads the source once per tap, for
// the 1 to 4 columns that it fills; here it is read once for all. A single tap gains nothing by that; more than 64 columns do
// not fit the tile; and with less channels than a step of k (32) adding columns up costs more than their product saves.
inline bool fills_columns(const Conv2dShape& s, int from_channels, int to_channels) {
  const int64_t taps = int64_t(s.KH) * s.KW;
  return s.groups == 1 && taps > 1 && to_channels <= 4 && taps * to_channels <= 64 && from_channels >= 32 &&
         from_channels % 4 == 0;
}
// The shape's part of the choice, which a plan makes without addresses. What is not aligned to 16 bytes goes to the general
// kernels when it is run: the workspace must do for them too.
inline bool takes_few_outputs(const Conv2dForward& a) {
  return on_tensor_cores(a) && fills_columns(a.s, a.s.C_in, a.s.C_out) && a.s.stride_h == 1 && a.s.stride_w == 1 &&
         a.fusion.pool == 1 && a.fusion.upsample <= 2;
}
inline bool takes_few_outputs(const Conv2dBackwardInput& a) {
  return on_tensor_cores(a) && fills_columns(a.s, a.s.C_out, a.s.C_in) && a.fusion.pool == 1 && a.fusion.upsample == 1;
}

inline int64_t columns_bytes(const Conv2dForward& a) { return a.s.w_count() * 4; }  // of workspace: w turned around

inline const char* columns_algorithm(Precision p) {
  switch (p) {
    case Precision::tf32:
      return "mma m16n8k8 tf32, columns";
    case Precision::bf16:
      return "mma m16n8k16 bf16, columns";
    default:
      return "mma m16n8k16 fp16, columns";
  }
}

void run_few_outputs(const Conv2dForward& a, const Context& context);
void run_few_outputs(const Conv2dBackwardInput& a, const Context& context, const float* scale);  // scale: of fp16, else null

}  // namespace warploom::v5
