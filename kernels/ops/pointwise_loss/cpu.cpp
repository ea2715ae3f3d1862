// pointwise_loss on the host: one pass makes the blocks' sums and the gradient.
#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"
#include "csrc/cpu/vec_math.h"

namespace warploom::cpu {
namespace {

// The terms of a vector; slope: their derivatives.
template <LossKind kKind>
WL_INLINE vf terms_of(vf p, vf t, vf* slope) {
  if constexpr (kKind == LossKind::l1) {
    const vf d = p - t;
    *slope = d > 0.0f ? broadcast(1.0f) : d < 0.0f ? broadcast(-1.0f) : d;  // of a NaN: NaN
    return d < 0.0f ? -d : d;
  } else {
    const vf e = exp(p > 0.0f ? -p : p);
    *slope = (p < 0.0f ? e : broadcast(1.0f)) / (1.0f + e) - t;
    const vf c = p < 0.0f ? -t : 1.0f - t;  // of an infinite logit: nothing where the target agrees, else infinity
    return (c == 0.0f ? vf{} : c * p) + log1p(e);
  }
}

template <LossKind kKind>
void run_kind(const PointwiseLoss& a, const Context& context) {
  const float *p = a.prediction.ptr(), *t = a.target.ptr();
  float* grad = a.grad.ptr();
  const float scale = static_cast<float>(a.weight / static_cast<double>(a.count));
  double total[1];
  sum_blocks<1>(a.count, context.workspace.ptr<double>(), total, [&](int64_t i, int n, vd* terms) {
    vf slope;
    widen(terms_of<kKind>(load_part(p + i, n), load_part(t + i, n), &slope), terms[0]);
    if (grad) store_part(grad + i, slope * scale, n);
  });
  store_loss(a, total[0] / static_cast<double>(a.count));
}

void run(const PointwiseLoss& a, const Context& context) {
  if (a.kind == LossKind::l1) return run_kind<LossKind::l1>(a, context);
  run_kind<LossKind::bce_with_logits>(a, context);
}

int64_t workspace_bytes(const PointwiseLoss& a) { return sum_workspace(a.count, 1); }

std::string why_not(const PointwiseLoss& a) {
  return a.count > 0 ? "" : "the mean over no elements is undefined; count must be positive";
}

}  // namespace

Entry<PointwiseLoss> pointwise_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::cpu
