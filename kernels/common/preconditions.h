// preconditions.h - what every kernel set checks before it takes a shape: "" or one sentence for why_not. Host code only.
#pragma once

#include <string>

#include "../ops.h"

namespace warploom {

// Offsets inside one image are 32-bit in the kernels, offsets between images 64-bit.
constexpr int64_t kImageLimit = int64_t(1) << 31;

inline std::string image_error(const char* what, int64_t elements) {
  if (elements < kImageLimit) return "";
  return std::string("one image of ") + what + " has " + std::to_string(elements) +
         " elements; the kernels index at most 2147483647";
}

inline std::string conv2d_shape_error(const Conv2dShape& s) {
  if (s.N < 0 || s.C_in < 1 || s.H < 1 || s.W < 1 || s.C_out < 1 || s.KH < 1 || s.KW < 1)
    return "a convolution needs positive channels, height, width and kernel size";
  if (s.stride_h < 1 || s.stride_w < 1) return "a convolution needs strides of at least 1";
  if (s.pad_top < 0 || s.pad_bottom < 0 || s.pad_left < 0 || s.pad_right < 0) return "a convolution's padding cannot be negative";
  if (s.groups < 1 || s.C_in % s.groups || s.C_out % s.groups)
    return "groups (" + std::to_string(s.groups) + ") must divide C_in (" + std::to_string(s.C_in) + ") and C_out (" +
           std::to_string(s.C_out) + ")";
  const int64_t rows = int64_t(s.H) + s.pad_top + s.pad_bottom - s.KH, cols = int64_t(s.W) + s.pad_left + s.pad_right - s.KW;
  if (rows < 0 || cols < 0)
    return "the kernel " + std::to_string(s.KH) + "x" + std::to_string(s.KW) + " is larger than the padded input";
  if (s.OH != rows / s.stride_h + 1 || s.OW != cols / s.stride_w + 1)
    return "OH x OW must be " + std::to_string(rows / s.stride_h + 1) + "x" + std::to_string(cols / s.stride_w + 1) + ", not " +
           std::to_string(s.OH) + "x" + std::to_string(s.OW);
  const std::string input = image_error("the input", elements(s.C_in, s.H, s.W));
  if (!input.empty()) return input;
  const std::string output = image_error("the output", elements(s.C_out, s.OH, s.OW));
  if (!output.empty()) return output;
  return image_error("the weights", s.w_count());
}

// What the epilogues of the convolutions hold of activations.
inline std::string epilogue_error(const Fusion& f) {
  if (in_epilogues(f.activation)) return "";
  return "the convolutions' epilogues hold relu, leaky_relu and sigmoid; run another activation as an operation of its own";
}

// A 3x3 convolution with padding 1 of an image upsampled by 2, and no pool: its taps can be summed beforehand, as each pixel of the
// small image meets several.
inline bool upsampled_3x3(const Conv2dShape& s, const Fusion& f) {
  return f.upsample == 2 && f.pool == 1 && s.KH == 3 && s.KW == 3 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 1 &&
         s.pad_bottom == 1 && s.pad_left == 1 && s.pad_right == 1 && s.H % 2 == 0 && s.W % 2 == 0;
}

// What a gradient may be asked to take along, and most kernel sets leave to activation_backward and conv2d_backward_bias.
template <class Args>
std::string taken_along_error(const Args&) {
  return "";
}
inline std::string taken_along_error(const Conv2dBackwardInput& a) {
  return a.x_activation == Activation::none ? ""
                                            : "this kernel set takes the gradient of an activation as an operation of its own";
}
inline std::string taken_along_error(const Conv2dBackwardWeight& a) {
  return a.with_db ? "this kernel set takes the gradient of a bias as an operation of its own" : "";
}

// What the epilogues of gradients hold (take_slopes()).
inline std::string slopes_error(const Conv2dBackwardInput& a) {
  const bool held = a.x_activation == Activation::relu || a.x_activation == Activation::leaky_relu;
  return held || a.x_activation == Activation::none
             ? ""
             : "the epilogues of gradients hold the slopes of relu and leaky_relu; run the gradient of another activation as an "
               "operation of its own";
}

// Of kernel sets whose maps are float32.
inline std::string storage_error(DType x, DType y) {
  return x == DType::f32 && y == DType::f32 ? "" : "this kernel set stores its maps in float32 only; v5 and v7 take 16 bits";
}

template <class Args>
std::string float32_map(const Args& a) {  // of elementwise operations
  return storage_error(a.type, a.type);
}

// The shape, and the precision of a kernel set that computes in float32; Args is any of the Conv2d argument structs.
template <class Args>
std::string conv2d_error(const Args& a) {
  if (a.fusion.precision != Precision::fp32 && a.fusion.precision != Precision::fp32_exact)
    return "this kernel set computes in float32 only; use precision fp32, or a version with tensor cores";
  std::string error = storage_error(a.fusion.x_type, a.fusion.y_type);
  if (error.empty()) error = epilogue_error(a.fusion);
  if (error.empty()) error = taken_along_error(a);
  return error.empty() ? conv2d_shape_error(a.s) : error;
}

// why_not of a convolution entry that folds nothing in; Args is any of the Conv2d argument structs.
template <class Args>
std::string plain_conv2d(const Args& a) {
  if (a.fusion.activation != Activation::none || a.fusion.pool != 1 || a.fusion.upsample != 1)
    return "this kernel set folds no activation, pool or upsample into a convolution; run it as an operation of its own";
  return conv2d_error(a);
}

template <class Args>
std::string pool2d_shape(const Args& a) {
  const Pool2dShape& s = a.s;
  if (s.N < 0 || s.C < 1 || s.H < 1 || s.W < 1 || s.KH < 1 || s.KW < 1 || s.stride_h < 1 || s.stride_w < 1)
    return "a pool needs positive channels, height, width, window and stride";
  if (s.KH > s.H || s.KW > s.W)
    return "the window " + std::to_string(s.KH) + "x" + std::to_string(s.KW) + " is larger than the input " +
           std::to_string(s.H) + "x" + std::to_string(s.W);
  const int OH = (s.H - s.KH) / s.stride_h + 1, OW = (s.W - s.KW) / s.stride_w + 1;
  if (s.OH != OH || s.OW != OW)
    return "OH x OW must be " + std::to_string(OH) + "x" + std::to_string(OW) + ", not " + std::to_string(s.OH) + "x" +
           std::to_string(s.OW);
  return image_error("the input", elements(s.C, s.H, s.W));
}

template <class Args>
std::string upsample_shape(const Args& a) {
  const UpsampleShape& s = a.s;
  if (s.N < 0 || s.C < 1 || s.H < 1 || s.W < 1 || s.scale_h < 1 || s.scale_w < 1)
    return "an upsample needs positive channels, height, width and scale";
  return image_error("the output", elements(s.C, s.H, s.W, s.scale_h, s.scale_w));
}

template <class Args>
std::string image_shape(const Args& a) {  // LayoutConvert, GatherImages
  if (a.N < 0 || a.C < 1 || a.H < 1 || a.W < 1) return "images need positive channels, height and width";
  return image_error("the tensor", elements(a.C, a.H, a.W));
}

inline std::string gather_images_error(const GatherImages& a) {
  if (a.dtype != DType::u8 && a.dtype != DType::f32) return "images must be uint8 or float32";
  return image_shape(a);
}

}  // namespace warploom
