// adabelief_update on the host: the step's coefficients in double, then one pass over the flat arrays.
#include <cmath>

#include "csrc/cpu/draws.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

void run(const AdabeliefUpdate& a, const Context&) {
  const double* hyper = a.hyper.ptr<double>();
  const int step = *a.step.ptr<int>();
  const float beta1 = static_cast<float>(hyper[1]), rest1 = static_cast<float>(1.0 - hyper[1]);
  const float beta2 = static_cast<float>(hyper[2]), rest2 = static_cast<float>(1.0 - hyper[2]);
  const double left1 = a.bias_correction ? 1.0 - whole_power(hyper[1], step) : 1.0;
  const double left2 = a.bias_correction ? 1.0 - whole_power(hyper[2], step) : 1.0;
  const float step_size = static_cast<float>(hyper[0] / left1), root_scale = static_cast<float>(1.0 / std::sqrt(left2));
  const float eps = static_cast<float>(hyper[3]), decay = static_cast<float>(hyper[4]);
  const float factor = a.scale ? *a.scale.ptr() : 1.0f;
  const float* g = a.g.ptr();
  float *w = a.w.ptr(), *m = a.m.ptr(), *s = a.s.ptr();
  LearningRateDropout(hyper[5]).for_vectors(a.count, step, [&](int64_t i, int n, vf kept) {
    const vf weight = load_part(w + i, n), d = factor * load_part(g + i, n) + decay * weight;
    const vf first = beta1 * load_part(m + i, n) + rest1 * d, surprise = d - first;
    const vf second = beta2 * load_part(s + i, n) + rest2 * surprise * surprise;
    store_part(m + i, first, n), store_part(s + i, second, n);
    store_part(w + i, weight - step_size * kept * first / (root(second) * root_scale + eps), n);
  });
}

}  // namespace

Entry<AdabeliefUpdate> adabelief_update() { return {run, nullptr, nullptr, nullptr}; }

}  // namespace warploom::cpu
