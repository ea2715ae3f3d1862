// choice.h - inside v5: which convolutions go to the tensor cores, and what the rest is told. Host code only.
#pragma once

#include <string>

#include "../common/preconditions.h"
#include "../device.h"
#include "../v2_tiled_nhwc/table.h"

namespace warploom::v5 {

inline bool wants_float32(const Fusion& f) { return f.precision == Precision::fp32 || f.precision == Precision::fp32_exact; }

// Groups of so few channels would leave a fragment of 16 x 8 empty (depthwise above all): v2's kernels take them, in float32.
using v2::small_groups;

template <class Args>
bool on_tensor_cores(const Args& a) {
  return !wants_float32(a.fusion) && !small_groups(a.s);
}

// The same call for v2, which computes in float32 whatever precision was asked for.
template <class Args>
Args in_float32(const Args& a) {
  Args plain = a;
  plain.fusion.precision = Precision::fp32;
  return plain;
}

// Whether a 3x3 convolution of an image upsampled by 2 becomes a transposed 4x4 one of the small image (upsample_taps.h). With a pool
// behind, or other kernels, borders or groups, the image is upsampled in the loads instead.
inline bool sums_taps(const Conv2dShape& s, const Fusion& f) {
  return upsampled_3x3(s, f) && s.groups == 1 && int64_t(16) * s.C_in * s.C_out < kImageLimit;
}

// How often the three gradients together read dy, in tiles of 128 x 128, loads that hit in L2 counted: dx once per tap and 128 input
// channels, dw once per 128 of taps * input channels, db once. Never less than the three maps that an activation's gradient moves as
// an operation of its own (docs/kernels/v5.md has the sums).
inline int64_t reads_of_gradient(const Conv2dShape& s, const Fusion& f) {
  const int64_t taps = int64_t(s.KH) * s.KW, inputs = s.C_in / s.groups, tiles = (inputs + 127) / 128;
  return sums_taps(s, f) ? 8 * tiles + 1 : taps * tiles + (taps * inputs + 127) / 128 + 1;
}

// Ends a refusal of what is folded in: nothing of it is lost, each part is an operation that this version has.
constexpr const char* kApart = "; as operations of their own v5 takes the convolution and the rest";

// What the tensor core entries have in common; `folds_activation`: the forward entry. In the gradients an activation goes with its
// pool, whose maxima tell the signs; without one y would have to be read wherever dy is. A refusal names the version that takes the
// layer, or says that the shape is none, which no version takes.
template <class Args>
std::string tensor_core_error(const Args& a, bool folds_activation) {
  const Fusion& f = a.fusion;
  for (const DType type : {f.x_type, f.y_type})
    if (type != DType::f32 && type != half_type(f.precision))
      return "v5 stores maps in float32, or in the 16 bits of their operands: bf16 or f16, by the precision";
  if ((f.x_type != DType::f32 && a.s.C_in <= 4) || (f.y_type != DType::f32 && a.s.C_out <= 4))
    return "v5's kernels for up to 4 channels on one side want that map in float32; it is small";
  if (!in_epilogues(f.activation)) return epilogue_error(f);
  if (f.pool != 1 && f.pool != 2)
    return "v5 folds a max pool of 2x2 into a convolution, not of " + std::to_string(f.pool) + "x" + std::to_string(f.pool) +
           kApart;
  if (f.pool == 2 && (a.s.OH < 2 || a.s.OW < 2))
    return "a map of less than 2x2 pixels has no window of 2x2 to pool, in no version";
  if (f.pool == 2 && f.activation == Activation::sigmoid)
    return std::string("v5 folds no sigmoid in front of a folded max pool") + kApart;
  if (f.pool == 2 && f.activation == Activation::leaky_relu && f.negative_slope < 0.0f)
    return std::string("v5 tells the slope of a leaky ReLU by the sign of its output; a negative slope hides it") + kApart;
  if (f.activation != Activation::none && f.pool == 1 && !folds_activation)
    return "folded into v5's gradients, y would be read with dy, " + std::to_string(reads_of_gradient(a.s, f)) +
           " times; the activation's gradient moves three maps" + kApart;
  if (f.upsample != 1 && f.upsample != 2)
    return "v5 folds nearest upsampling by 2 into a convolution, not by " + std::to_string(f.upsample) + kApart;
  if (f.upsample == 2 && (a.s.stride_h != 1 || a.s.stride_w != 1))
    return std::string("v5 folds an upsample only into a convolution of stride 1") + kApart;
  if (f.upsample == 2 && (a.s.H % 2 || a.s.W % 2))
    return "an image upsampled by 2 has an even height and width, in every version";
  return conv2d_shape_error(a.s);
}

// The refusal of what v5 leaves to v2's kernels: float32, and groups too small for tensor cores.
template <class Args>
std::string left_to_v2(const Args& a, const std::string& why) {
  const Fusion& f = a.fusion;
  if (why.empty() || (f.activation == Activation::none && f.pool == 1 && f.upsample == 1)) return why;
  return std::string("v5 leaves ") + (wants_float32(f) ? "float32" : "groups of at most 4 channels") +
         " to v2's kernels, which fold nothing into a convolution" + kApart;
}

inline const char* name_of(Precision p) { return p == Precision::tf32 ? "tf32" : p == Precision::bf16 ? "bf16" : "fp16"; }

// Throws where the GPU has no tensor cores for the precision.
inline void require_tensor_cores(Precision p, const Context& context) {
  if (!context.device) return;
  const int have = context.device->compute_major * 10 + context.device->compute_minor, need = p == Precision::fp16 ? 75 : 80;
  if (have >= need) return;
  throw DeviceError("precision " + std::string(name_of(p)) + " needs a GPU of compute capability " +
                    (need == 75 ? "7.5" : "8.0") + " or newer, this one has " + std::to_string(have / 10) + "." +
                    std::to_string(have % 10) + "; use " + (have >= 75 ? "fp16 or fp32" : "fp32"));
}

// run(operand type) for the precision asked for.
template <class Bf16, class F16, class Tf32, class Run>
void with_operand_type(Precision p, Run run) {
  if (p == Precision::tf32) return run(Tf32());
  if (p == Precision::bf16) return run(Bf16());
  run(F16());
}

}  // namespace warploom::v5
