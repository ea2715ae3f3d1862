// dice_loss on the host: one pass for the three sums, one for the gradient.
#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"

namespace warploom::cpu {
namespace {

void run(const DiceLoss& a, const Context& context) {
  const float *p = a.prediction.ptr(), *t = a.target.ptr();
  float* grad = a.grad.ptr();
  double sums[3];
  sum_blocks<3>(a.count, context.workspace.ptr<double>(), sums, [&](int64_t i, int n, vd* terms) {
    widen(load_part(p + i, n), terms[1]), widen(load_part(t + i, n), terms[2]);
    terms[0] = terms[1] * terms[2];
  });
  const double numerator = 2.0 * sums[0] + a.smooth, denominator = sums[1] + sums[2] + a.smooth;
  if (grad) {
    const float of_target = static_cast<float>(-2.0 * a.weight / denominator);
    const float constant = static_cast<float>(a.weight * numerator / (denominator * denominator));
    for_vectors(a.count, [&](int64_t i, int n) { store_part(grad + i, of_target * load_part(t + i, n) + constant, n); });
  }
  store_loss(a, 1.0 - numerator / denominator);
}

int64_t workspace_bytes(const DiceLoss& a) { return sum_workspace(a.count, 3); }

std::string why_not(const DiceLoss& a) {
  return a.count > 0 ? "" : "the overlap of no elements is undefined; count must be positive";
}

}  // namespace

Entry<DiceLoss> dice_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::cpu
