// rmse_loss on the host: one pass for the sum, one for the gradient.
#include <cmath>

#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"

namespace warploom::cpu {
namespace {

void run(const RmseLoss& a, const Context& context) {
  const float *p = a.prediction.ptr(), *t = a.target.ptr();
  float* grad = a.grad.ptr();
  double total[1];
  sum_blocks<1>(a.count, context.workspace.ptr<double>(), total, [&](int64_t i, int n, vd* terms) {
    vd d;
    widen(load_part(p + i, n) - load_part(t + i, n), d);
    terms[0] = d * d;
  });
  const double value = std::sqrt(total[0] / static_cast<double>(a.count) + a.eps);
  if (grad) {
    const float factor = value == 0.0 ? 0.0f : static_cast<float>(a.weight / (static_cast<double>(a.count) * value));
    for_vectors(a.count,
                [&](int64_t i, int n) { store_part(grad + i, factor * (load_part(p + i, n) - load_part(t + i, n)), n); });
  }
  store_loss(a, value);
}

int64_t workspace_bytes(const RmseLoss& a) { return sum_workspace(a.count, 1); }

std::string why_not(const RmseLoss& a) {
  if (!(a.eps >= 0.0f)) return "eps stands under a root; it must not be negative";
  return a.count > 0 ? "" : "the mean over no elements is undefined; count must be positive";
}

}  // namespace

Entry<RmseLoss> rmse_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::cpu
