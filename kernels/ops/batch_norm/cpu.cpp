// batch_norm/cpu.cpp - batch norm on the host: one pass for the sums, one for the values, the activation in both.
//
// Memory decides: forward reads x twice and writes y, backward reads dy, x (and y) twice and writes dx. Arithmetic hides behind that,
// so the sums are as careful as the kernels' (channel_sums_cpu.h).
#include <cmath>

#include "../preconditions.h"
#include "channel_sums_cpu.h"
#include "csrc/cpu/entries.h"

namespace warploom::cpu {
namespace {

// The workspace: partial sums, then rows of coefficients by column.
struct Workspace {
  double* partials;
  float *a, *b, *c, *d;
  int64_t bytes;
  Workspace(const Maps& m, bool sums, const InOut& buffer) {
    Carver carver(buffer);
    partials = carver.take<double>(sums ? SumTasks(m).doubles() : 0);
    a = carver.take(m.padded), b = carver.take(m.padded), c = carver.take(m.padded), d = carver.take(m.padded);
    bytes = carver.used();
  }
};

int64_t forward_workspace(const BatchNormForward& a) {
  return Workspace(Maps(a.outer, a.C, a.inner), a.training != 0, InOut()).bytes;
}
int64_t backward_workspace(const BatchNormBackward& a) { return Workspace(Maps(a.outer, a.C, a.inner), true, InOut()).bytes; }

// Spreads row[0..C-1] over all columns, from the end, so that it can be done in place.
void unfold_in_place(const Maps& m, float* row) {
  for (int64_t j = m.padded - 1; j >= m.C; --j) row[j] = j < m.columns ? row[j % m.C] : 0.0f;
}

void batch_norm_forward_run(const BatchNormForward& a, const Context& context) {
  const Maps m(a.outer, a.C, a.inner);
  const Workspace w(m, a.training != 0, context.workspace);
  const float *x = a.x.ptr(), *gamma = a.gamma.ptr();
  float *high = w.a, *low = w.b, *scale = w.c, *beta = w.d, *y = a.y.ptr();
  float *running_mean = a.running_mean.ptr(), *running_var = a.running_var.ptr();
  const auto store_statistics = [&](int64_t c, double mean, double variance) {
    const double inv_std = 1.0 / std::sqrt(variance + static_cast<double>(a.eps));
    high[c] = static_cast<float>(mean);
    low[c] = static_cast<float>(mean - static_cast<double>(high[c]));
    scale[c] = static_cast<float>(inv_std * (gamma ? static_cast<double>(gamma[c]) : 1.0));
    if (a.mean) a.mean.ptr()[c] = high[c];
    if (a.inv_std) a.inv_std.ptr()[c] = static_cast<float>(inv_std);
  };
  if (a.training) {
    float* shift = w.d;  // the channel's first value; beta takes its place later
    for (int64_t c = 0; c < m.C; ++c) shift[c] = x[c * m.inner];
    if (!m.planes()) unfold_in_place(m, shift);
    const auto term = [=](int64_t offset, int n, const auto& place, vf& u, vf& v) __attribute__((always_inline)) {
      u = load_part(x + offset, n) - place(shift);
      v = u;
    };
    const double n = static_cast<double>(a.outer) * static_cast<double>(a.inner), momentum = a.momentum;
    channel_sums<true>(m, term, w.partials, [&](int64_t c, double sum, double squares) {
      const double shifted = sum / n, mean = static_cast<double>(shift[c]) + shifted;
      double centred = squares - sum * shifted;
      if (centred < 0.0) centred = 0.0;  // not fmax: a NaN stays one
      store_statistics(c, mean, centred / n);
      running_mean[c] = static_cast<float>((1.0 - momentum) * running_mean[c] + momentum * mean);
      running_var[c] = static_cast<float>((1.0 - momentum) * running_var[c] + momentum * (centred / (n - 1.0)));
    });
  } else {
    for (int64_t c = 0; c < m.C; ++c) store_statistics(c, running_mean[c], running_var[c]);
  }
  for (float* row : {high, low, scale}) unfold_in_place(m, row);
  m.unfold(a.beta.ptr(), 0.0f, beta);
  with_activation(a.activation, [&](auto kind) {
    for_maps(m, [=](int64_t offset, int n, const auto& place) __attribute__((always_inline)) {
      const vf z = ((load_part(x + offset, n) - place(high)) - place(low)) * place(scale) + place(beta);
      store_part(y + offset, activate(z, kind(), a.negative_slope), n);
    });
  });
}

template <Activation kind>
void backward_of(const BatchNormBackward& a, const Context& context) {
  const Maps m(a.outer, a.C, a.inner);
  const Workspace w(m, true, context.workspace);
  const float *dy = a.dy.ptr(), *x = a.x.ptr(), *y = a.y.ptr(), *gamma = a.gamma.ptr(), *inv_std = a.inv_std.ptr();
  float *mean = w.a, *by_gradient = w.b, *by_x = w.c, *shift = w.d, *dx = a.dx.ptr();
  const float slope = a.negative_slope;
  m.unfold(a.mean.ptr(), 0.0f, mean);
  const auto gradient = [=](int64_t offset, int n) __attribute__((always_inline)) {
    const vf g = load_part(dy + offset, n);
    return kind == Activation::none ? g : activate_backward(g, load_part(y + offset, n), kind, slope);
  };
  const auto coefficients = [&](int64_t c, double sum, double product) {
    const double inv = inv_std[c], scale = inv * (gamma ? static_cast<double>(gamma[c]) : 1.0);
    const double n = static_cast<double>(a.outer) * static_cast<double>(a.inner);
    if (a.dgamma) a.dgamma.ptr()[c] = static_cast<float>(product * inv);
    if (a.dbeta) a.dbeta.ptr()[c] = static_cast<float>(sum);
    by_gradient[c] = static_cast<float>(scale);
    by_x[c] = static_cast<float>(-scale * inv * inv * product / n);
    shift[c] = static_cast<float>(-scale * sum / n);
  };
  if (a.training || a.dgamma || a.dbeta) {
    const auto term = [=](int64_t offset, int n, const auto& place, vf& u, vf& v) __attribute__((always_inline)) {
      u = gradient(offset, n);
      v = load_part(x + offset, n) - place(mean);
    };
    channel_sums<false>(m, term, w.partials, coefficients);
  } else {
    for (int64_t c = 0; c < m.C; ++c) coefficients(c, 0.0, 0.0);
  }
  if (!dx) return;
  for (float* row : {by_gradient, by_x, shift}) unfold_in_place(m, row);
  if (a.training)
    for_maps(m, [=](int64_t offset, int n, const auto& place) __attribute__((always_inline)) {
      const vf g = gradient(offset, n), centred = load_part(x + offset, n) - place(mean);
      store_part(dx + offset, g * place(by_gradient) + (centred * place(by_x) + place(shift)), n);
    });
  else
    for_maps(m, [=](int64_t offset, int n, const auto& place)
                    __attribute__((always_inline)) { store_part(dx + offset, gradient(offset, n) * place(by_gradient), n); });
}

void batch_norm_backward_run(const BatchNormBackward& a, const Context& context) {
  with_activation(a.activation, [&](auto kind) { backward_of<kind()>(a, context); });
}

int64_t fold_workspace(const BatchNormFold& a) {
  return Maps(a.outer, a.C, a.inner).padded * static_cast<int64_t>(sizeof(float));
}

void batch_norm_fold_run(const BatchNormFold& a, const Context& context) {
  const Maps m(a.outer, a.C, a.inner);
  float *scale = context.workspace.ptr(), *w_out = a.w_out.ptr();
  const float* w = a.w.ptr();
  for (int64_t c = 0; c < m.C; ++c) {
    scale[c] = (a.gamma ? a.gamma.ptr()[c] : 1.0f) / std::sqrt(a.running_var.ptr()[c] + a.eps);
    const float centred = (a.bias ? a.bias.ptr()[c] : 0.0f) - a.running_mean.ptr()[c];
    a.b_out.ptr()[c] = centred * scale[c] + (a.beta ? a.beta.ptr()[c] : 0.0f);
  }
  unfold_in_place(m, scale);
  for_maps(m, [=](int64_t offset, int n, const auto& place)
                  __attribute__((always_inline)) { store_part(w_out + offset, load_part(w + offset, n) * place(scale), n); });
}

}  // namespace

Entry<BatchNormForward> batch_norm_forward() {
  return {batch_norm_forward_run, batch_norm_forward_error, forward_workspace, nullptr};
}
Entry<BatchNormBackward> batch_norm_backward() {
  return {batch_norm_backward_run, active_map_error<BatchNormBackward>, backward_workspace, nullptr};
}
Entry<BatchNormFold> batch_norm_fold() { return {batch_norm_fold_run, plain_map_error<BatchNormFold>, fold_workspace, nullptr}; }

}  // namespace warploom::cpu
