// conv2d.cu - v3's forward convolution and input gradient: both are correlations (correlation.h); this file only sets them up.
#include "../common/preconditions.h"
#include "correlation.h"
#include "entries.h"

namespace warploom::v3 {
inline namespace conv2d_entries {

std::string too_wide(const Conv2dShape& s) {
  if (correlation_fits(forward_correlation(s))) return "";
  return "v3's tiles hold kernels up to 256 wide, this one is " + std::to_string(s.KW) + " wide; use v1";
}

std::string why_not_forward(const Conv2dForward& a) {
  if (a.fusion.pool != 1 || a.fusion.upsample != 1)
    return "v3 folds only the activation into a convolution; run the max pool and the upsample as operations of their own";
  const std::string error = conv2d_error(a);
  return error.empty() ? too_wide(a.s) : error;
}

std::string why_not_backward(const Conv2dBackwardInput& a) {
  const std::string error = plain_conv2d(a);
  return error.empty() ? too_wide(a.s) : error;
}

void run(const Correlation& c, const float* source, const float* w, const Epilogue& epilogue, float* target,
         const Context& context) {
  const bool plain = c.step_h == 1 && c.step_w == 1 && c.phases_h == 1 && c.phases_w == 1;
  if (plain && c.KH == 3 && c.KW == 3)
    correlate_3x3(c, source, w, epilogue, target, context);
  else
    correlate(c, source, w, epilogue, target, context);
}

void forward(const Conv2dForward& a, const Context& context) {
  const Epilogue epilogue{a.bias.ptr(), a.fusion.activation, a.fusion.negative_slope};
  run(forward_correlation(a.s), a.x.ptr(), a.w.ptr(), epilogue, a.y.ptr(), context);
}

void backward_input(const Conv2dBackwardInput& a, const Context& context) {
  run(backward_correlation(a.s), a.dy.ptr(), a.w.ptr(), Epilogue{}, a.dx.ptr(), context);
}

}  // namespace conv2d_entries

const Entry<Conv2dForward> conv2d_forward = {forward, why_not_forward, nullptr, nullptr};
const Entry<Conv2dBackwardInput> conv2d_backward_input = {backward_input, why_not_backward, nullptr, nullptr};

}  // namespace warploom::v3
