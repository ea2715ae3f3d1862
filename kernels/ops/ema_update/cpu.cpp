// ema_update on the host: one pass over the flat arrays.
#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"

namespace warploom::cpu {
namespace {

void run(const EmaUpdate& a, const Context&) {
  const int step = *a.step.ptr<int>();
  const double early = static_cast<double>(step) / (static_cast<double>(step) + 9.0), decay = *a.hyper.ptr<double>();
  const float rest = step <= 1 ? 1.0f : static_cast<float>(1.0 - (early < decay ? early : decay));
  const float* w = a.w.ptr();
  float* average = a.average.ptr();
  for_vectors(a.count, [&](int64_t i, int n) {
    const vf before = load_part(average + i, n), weight = load_part(w + i, n);
    store_part(average + i, step <= 1 ? weight : before + rest * (weight - before), n);
  });
}

}  // namespace

Entry<EmaUpdate> ema_update() { return {run, nullptr, nullptr, nullptr}; }

}  // namespace warploom::cpu
