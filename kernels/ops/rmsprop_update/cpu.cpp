// rmsprop_update on the host: one pass over the flat arrays.
#include "csrc/cpu/draws.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

void run(const RmspropUpdate& a, const Context&) {
  const double* hyper = a.hyper.ptr<double>();
  const float lr = static_cast<float>(hyper[0]), alpha = static_cast<float>(hyper[1]), rest = static_cast<float>(1.0 - hyper[1]);
  const float eps = static_cast<float>(hyper[2]), momentum = static_cast<float>(hyper[3]), decay = static_cast<float>(hyper[4]);
  const float factor = a.scale ? *a.scale.ptr() : 1.0f;
  const float* g = a.g.ptr();
  float *w = a.w.ptr(), *square = a.square.ptr(), *velocity = a.velocity.ptr();
  LearningRateDropout(hyper[5]).for_vectors(a.count, *a.step.ptr<int>(), [&](int64_t i, int n, vf kept) {
    const vf weight = load_part(w + i, n), d = factor * load_part(g + i, n) + decay * weight;
    const vf second = alpha * load_part(square + i, n) + rest * d * d;
    store_part(square + i, second, n);
    vf moved = d / (root(second) + eps);
    if (velocity) {
      moved = momentum * load_part(velocity + i, n) + moved;
      store_part(velocity + i, moved, n);
    }
    store_part(w + i, weight - lr * kept * moved, n);
  });
}

}  // namespace

Entry<RmspropUpdate> rmsprop_update() { return {run, nullptr, nullptr, nullptr}; }

}  // namespace warploom::cpu
