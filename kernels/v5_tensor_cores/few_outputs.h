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
// Rows of 32 channels and more, a multiple of four, are read 16 bytes at a time: tensors begin on 16 bytes, as those of the engine do
// (run_few_outputs throws for others).
inline bool takes_few_outputs(const Conv2dForward& a) {
  return on_tensor_cores(a) && a.fusion.y_type == DType::f32 && fills_columns(a.s, a.s.C_in, a.s.C_out) && a.s.stride_h == 1 &&
         a.s.stride_w == 1 && a.fusion.pool == 1 && a.fusion.upsample <= 2;
}
inline bool takes_few_outputs(const Conv2dBackwardInput& a) {
  return on_tensor_cores(a) && gradient_type(a.fusion.x_type) == DType::f32 && fills_columns(a.s, a.s.C_out, a.s.C_in) &&
         a.fusion.pool == 1 && a.fusion.upsample == 1;
}

template <class Args>
std::string few_outputs_refusal(const Args& a) {
  return takes_few_outputs(a)
             ? ""
             : "its kernel makes a column of each tap of at most 4 outputs, float32, 64 in all, from 32 channels or more";
}

void run_few_outputs(const Conv2dForward& a, const Context& context);
void run_few_outputs(const Conv2dBackwardInput& a, const Context& context, const float* scale);  // scale: of fp16, else null

}  // namespace warploom::v5
