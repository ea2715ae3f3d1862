// gradient_norm on the host: blocks' sums in double, added in order.
#include <cmath>

#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"

namespace warploom::cpu {
namespace {

void run(const GradientNorm& a, const Context& context) {
  const float* g = a.g.ptr();
  double total[1];
  sum_blocks<1>(a.count, context.workspace.ptr<double>(), total, [&](int64_t i, int n, vd* terms) {
    vd v;
    widen(load_part(g + i, n), v);
    terms[0] = v * v;
  });
  const double norm = std::sqrt(total[0]), factor = *a.max_norm.ptr() / (norm + 1e-6);
  a.out.ptr()[0] = static_cast<float>(norm);
  a.out.ptr()[1] = static_cast<float>(factor >= 1.0 ? 1.0 : factor);  // in this order a NaN stays one
}

int64_t workspace_bytes(const GradientNorm& a) { return sum_workspace(a.count, 1); }

}  // namespace

Entry<GradientNorm> gradient_norm() { return {run, nullptr, workspace_bytes, nullptr}; }

}  // namespace warploom::cpu
