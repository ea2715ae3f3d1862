// bias_activation/cpu.cpp - a bias per channel and an activation on the host, one pass.
#include "../maps_cpu.h"
#include "../preconditions.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

int64_t workspace(const BiasActivation& a) { return Maps(a.outer, a.C, a.inner).padded * static_cast<int64_t>(sizeof(float)); }

void run(const BiasActivation& a, const Context& context) {
  const Maps m(a.outer, a.C, a.inner);
  const float* x = a.x.ptr();
  float *bias = context.workspace.ptr(), *y = a.y.ptr();
  m.unfold(a.bias.ptr(), 0.0f, bias);
  with_activation(a.activation, [&](auto kind) {
    for_maps(m, [=](int64_t offset, int n, const auto& place) __attribute__((always_inline)) {
      store_part(y + offset, activate(load_part(x + offset, n) + place(bias), kind(), a.negative_slope), n);
    });
  });
}

}  // namespace

Entry<BiasActivation> bias_activation() { return {run, active_map_error<BiasActivation>, workspace, nullptr}; }

}  // namespace warploom::cpu
