// convolution.h - inside v6: whole convolutions and their gradients, chunk by chunk.
#pragma once

#include "passes.h"

namespace warploom::v6 {

// Hands out the workspace in pieces aligned for float4; without a context it only counts.
class Workspace {
 public:
  explicit Workspace(const Context* context) : base_(context ? static_cast<char*>(context->workspace.data) : nullptr) {}
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

// Each does its work where there is a context, and returns the bytes of workspace that it wants.

// y = convolution of x; form mirrored: the gradient of the input, with x = dy and the paddings of that convolution.
int64_t convolve(const Context* context, Scheme scheme, FilterForm form, int images, const Map& x, int pad_top, int pad_left,
                 int C, int N, const float* w, const Result& y);

struct Gradients {
  Scheme scheme = Scheme::none;
  Conv2dShape s;  // of the convolution; with an upsample, x and dx have half its H and W
  Map dy;
  const float *x = nullptr, *w = nullptr;
  float *dx = nullptr, *dw = nullptr;
  bool want_dx = false, want_dw = false;
};
int64_t differentiate(const Context* context, const Gradients& g);

// The first layer, directly; dw of a pooled dy.
void few_inputs_forward(const Context& context, int images, const Map& x, int pad_top, int pad_left, const float* w,
                        const Result& y);
int64_t few_inputs_weight(const Context* context, const Gradients& g);

}  // namespace warploom::v6
