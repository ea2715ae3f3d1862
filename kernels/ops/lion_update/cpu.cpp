// lion_update on the host: one pass over the flat arrays.
#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"

namespace warploom::cpu {
namespace {

void run(const LionUpdate& a, const Context&) {
  const double* hyper = a.hyper.ptr<double>();
  const float lr = static_cast<float>(hyper[0]), shrink = static_cast<float>(1.0 - hyper[0] * hyper[3]);
  const float beta1 = static_cast<float>(hyper[1]), rest1 = static_cast<float>(1.0 - hyper[1]);
  const float beta2 = static_cast<float>(hyper[2]), rest2 = static_cast<float>(1.0 - hyper[2]);
  const float factor = a.scale ? *a.scale.ptr() : 1.0f;
  const float* g = a.g.ptr();
  float *w = a.w.ptr(), *m = a.m.ptr();
  for_vectors(a.count, [&](int64_t i, int n) {
    const vf d = factor * load_part(g + i, n), momentum = load_part(m + i, n);
    const vf mixed = beta1 * momentum + rest1 * d;
    const vf sign = mixed > 0.0f ? broadcast(1.0f) : mixed < 0.0f ? broadcast(-1.0f) : mixed;  // of a NaN: NaN
    store_part(w + i, shrink * load_part(w + i, n) - lr * sign, n);
    store_part(m + i, beta2 * momentum + rest2 * d, n);
  });
}

}  // namespace

Entry<LionUpdate> lion_update() { return {run, nullptr, nullptr, nullptr}; }

}  // namespace warploom::cpu
