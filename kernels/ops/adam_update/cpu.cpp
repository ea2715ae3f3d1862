// adam_update on the host: the step's coefficients in double, then one pass over the flat arrays.
#include <cmath>

#include "csrc/cpu/draws.h"
#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"

namespace warploom::cpu {
namespace {

void run(const AdamUpdate& a, const Context&) {
  const double* hyper = a.hyper.ptr<double>();
  const int step = *a.step.ptr<int>();
  const double lr = hyper[0], weight_decay = hyper[4];
  const bool decoupled = a.decoupled != 0;
  const float shrink = decoupled ? static_cast<float>(1.0 - lr * weight_decay) : 1.0f, decay = static_cast<float>(weight_decay);
  const float beta1 = static_cast<float>(hyper[1]), rest1 = static_cast<float>(1.0 - hyper[1]);
  const float beta2 = static_cast<float>(hyper[2]), rest2 = static_cast<float>(1.0 - hyper[2]);
  const float step_size = static_cast<float>(lr / (1.0 - whole_power(hyper[1], step)));
  const float root_scale = static_cast<float>(1.0 / std::sqrt(1.0 - whole_power(hyper[2], step)));
  const float eps = static_cast<float>(hyper[3]), factor = a.scale ? *a.scale.ptr() : 1.0f;
  const float* g = a.g.ptr();
  float *w = a.w.ptr(), *m = a.m.ptr(), *v = a.v.ptr();
  for_vectors(a.count, [&](int64_t i, int n) {
    const vf weight = load_part(w + i, n);
    vf d = factor * load_part(g + i, n);
    if (!decoupled) d += decay * weight;
    const vf first = beta1 * load_part(m + i, n) + rest1 * d, second = beta2 * load_part(v + i, n) + rest2 * d * d;
    store_part(m + i, first, n), store_part(v + i, second, n);
    store_part(w + i, shrink * weight - step_size * first / (root(second) * root_scale + eps), n);
  });
}

}  // namespace

Entry<AdamUpdate> adam_update() { return {run, nullptr, nullptr, nullptr}; }

}  // namespace warploom::cpu
