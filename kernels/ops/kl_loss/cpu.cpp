// kl_loss on the host: one pass makes the blocks' sums and the gradient. Latents are small beside the maps around them.
#include <cmath>

#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"
#include "preconditions.h"

namespace warploom::cpu {
namespace {

void run(const KlLoss& a, const Context& context) {
  const float* p = a.prediction.ptr();
  float* grad = a.grad.ptr();
  const int64_t cols = a.cols, count = a.rows * cols;
  const float scale = static_cast<float>(a.weight / static_cast<double>(a.samples));
  double total[1];
  sum_blocks<1>(count, context.workspace.ptr<double>(), total, [&](int64_t i, int n, vd* terms) {
    terms[0] = vd{};
    for (int k = 0; k < n; ++k) {
      const int64_t row = (i + k) / cols, mean = row * cols + i + k, log_variance = mean + cols;
      const float m = p[mean], v = p[log_variance], rise = std::expm1(v);
      terms[0][k] = 0.5 * (static_cast<double>(m) * m + (static_cast<double>(rise) - v));
      if (grad) grad[mean] = scale * m, grad[log_variance] = 0.5f * scale * rise;
    }
  });
  store_loss(a, total[0] / static_cast<double>(a.samples));
}

int64_t workspace_bytes(const KlLoss& a) { return sum_workspace(a.rows * a.cols, 1); }

}  // namespace

Entry<KlLoss> kl_loss() { return {run, kl_loss_error, workspace_bytes, nullptr}; }

}  // namespace warploom::cpu
