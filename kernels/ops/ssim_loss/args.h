// Structural similarity as a loss. Source: Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861.
// What every loss has: visit_loss in kernels/args.h.
#pragma once

#include "kernels/args.h"

namespace warploom {

// value = 1 - mean SSIM(p, t) over all images, channels and window positions; the window is a normalised Gaussian of window x window
// with `sigma`, centred (for an even size between two pixels), applied per channel without padding:
// SSIM = (2 mp mt + c1)(2 spt + c2) / ((mp^2 + mt^2 + c1)(sp + st + c2)), sp = E[p^2] - mp^2, spt = E[p t] - mp mt.
// DSSIM = (1 - SSIM) / 2 is this with half the weight. Needs window <= H and W.
struct SsimLoss {
  int64_t N = 0, C = 0, H = 0, W = 0;
  int window = 11;
  float sigma = 1.5f, c1 = 1e-4f, c2 = 9e-4f;
  Layout layout = Layout::nchw;
  int samples = 0;
  float weight = 1.0f;
  In prediction, target;
  Out grad, loss;
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("H", a.H), v.attr("W", a.W), v.attr("window", a.window);
    v.attr("sigma", a.sigma), v.attr("c1", a.c1), v.attr("c2", a.c2), v.attr("layout", a.layout);
    const int64_t count = elements(a.N, a.C, a.H, a.W);
    visit_loss(a, v, count, count);
  }
};

}  // namespace warploom
