// huber_loss on the host: one pass makes the blocks' sums and the gradient.
#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"
#include "preconditions.h"

namespace warploom::cpu {
namespace {

void run(const HuberLoss& a, const Context& context) {
  const float *p = a.prediction.ptr(), *t = a.target.ptr();
  float* grad = a.grad.ptr();
  const float delta = a.delta, scale = static_cast<float>(a.weight / static_cast<double>(a.count));
  double total[1];
  sum_blocks<1>(a.count, context.workspace.ptr<double>(), total, [&](int64_t i, int n, vd* terms) {
    const vf d = load_part(p + i, n) - load_part(t + i, n), size = d < 0.0f ? -d : d;
    const vf slope = d > delta ? broadcast(delta) : d < -delta ? broadcast(-delta) : d;  // of a NaN: NaN
    widen(size > delta ? delta * (size - 0.5f * delta) : 0.5f * d * d, terms[0]);
    if (grad) store_part(grad + i, slope * scale, n);
  });
  store_loss(a, total[0] / static_cast<double>(a.count));
}

int64_t workspace_bytes(const HuberLoss& a) { return sum_workspace(a.count, 1); }

}  // namespace

Entry<HuberLoss> huber_loss() { return {run, huber_loss_error, workspace_bytes, nullptr}; }

}  // namespace warploom::cpu
