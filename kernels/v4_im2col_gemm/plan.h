// plan.h - how v4 computes a convolution: which side is unfolded, in which pieces, and where they stand in the workspace.
//
// y = W * unfold(x) is the textbook form. With stride 1 the other side can be unfolded instead: y = fold(W' * x), and both
// gradients likewise. The column matrix has C_in * KH * KW rows in one form and C_out * KH * KW in the other, so the thinner side
// is unfolded: for 256 -> 3 channels that is 27 rows instead of 2304. A 1x1 convolution (stride 1, no padding) needs no column
// matrix at all.
#pragma once

#include "../common/preconditions.h"
#include "gemm.h"
#include "unfold.h"

namespace warploom::v4 {

enum class Form { direct, unfold_input, unfold_output };
enum class Direction { forward, backward_input, backward_weight };

inline Form choose_form(const Conv2dShape& s, Direction direction) {
  if (s.stride_h != 1 || s.stride_w != 1) return Form::unfold_input;
  const bool padded = s.pad_top || s.pad_bottom || s.pad_left || s.pad_right;
  if (s.KH == 1 && s.KW == 1 && !padded) return Form::direct;
  switch (direction) {
    case Direction::forward:
      return 2 * s.C_out <= s.C_in ? Form::unfold_output : Form::unfold_input;  // else the fused epilogue wins
    case Direction::backward_input:
      return s.C_out <= s.C_in ? Form::unfold_output : Form::unfold_input;
    default:
      return s.C_out < s.C_in ? Form::unfold_output : Form::unfold_input;
  }
}

// Rows of 27 weights straddle sectors and take scalar loads. Such a product is turned over: output channels lie in a row, not taps.
inline bool turns_over(const Conv2dShape& s, Form form) {
  return form != Form::unfold_output && s.C_in / s.groups * s.KH * s.KW % 4 != 0 && s.C_out / s.groups % 4 == 0;
}

struct GroupShape {
  int groups, O, I, taps;  // per group: output channels, input channels
  int64_t P_in, P_out;     // pixels of one plane
  explicit GroupShape(const Conv2dShape& s)
      : groups(s.groups),
        O(s.C_out / s.groups),
        I(s.C_in / s.groups),
        taps(s.KH * s.KW),
        P_in(int64_t(s.H) * s.W),
        P_out(int64_t(s.OH) * s.OW) {}
};

// Hands out the workspace in pieces aligned for float4; with a null base it only counts.
class Carver {
 public:
  explicit Carver(void* base = nullptr) : base_(static_cast<char*>(base)) {}
  float* take(int64_t floats) {
    float* const at = base_ ? reinterpret_cast<float*>(base_ + bytes_) : nullptr;
    bytes_ += (floats * 4 + 255) / 256 * 256;
    return at;
  }
  int64_t bytes() const { return bytes_; }

 private:
  char* base_;
  int64_t bytes_ = 0;
};

inline int64_t padded(int64_t columns) { return (columns + 3) / 4 * 4; }

template <class Args>
std::string refuse_any_fusion(const Args& a) {
  if (a.fusion.activation != Activation::none || a.fusion.pool != 1 || a.fusion.upsample != 1)
    return "v4 computes gradients of plain convolutions; run the gradient of the activation, pool or upsample on its own";
  return conv2d_error(a);
}

extern const Entry<Conv2dForward> conv2d_forward;
extern const Entry<Conv2dBackwardInput> conv2d_backward_input;
extern const Entry<Conv2dBackwardWeight> conv2d_backward_weight;

}  // namespace warploom::v4
