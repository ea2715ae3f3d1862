// batch_norm/cpu.cpp - batch norm on the host: one pass for the sums, one for the values, the activation in both.
//
// Memory decides: forward reads x twice and writes y, backward reads dy, x (and y) twice and writes dx. Arithmetic hides behind that,
// so the sums are as careful as the kernels' (channel_sums_cpu.h).
#include <cmath>

#include "../channel_sums_cpu.h"
#include "../preconditions.h"
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

template <class Args, bool kSums>
int64_t batch_norm_workspace(const Args& a) {
  return Workspace(Maps(a.outer, a.C, a.inner), kSums, InOut()).bytes;
}
int64_t forward_workspace(const BatchNormForward& a) {
  return Workspace(Maps(a.outer, a.C, a.inner), a.training != 0, InOut()).bytes;
}

// Spreads row[0..C-1] over all columns, from the end, so that it can be done in place.
void unfold_in_place(const Maps& m, float* row) {
  for (int64_t j = m.padded - 1; j >= m.C; --j) row[j] = j < m.columns ? row[j % m.C] : 0.0f;
}

// From the statistics to the values. Args: what batch_norm_forward and batch_norm_apply share.
template <class Args>
struct Statistics {
  const Args& a;
  const Workspace& w;
  void store(int64_t c, double mean, double variance) const {
    const double inv_std = 1.0 / std::sqrt(variance + static_cast<double>(a.eps));
    const float high = static_cast<float>(mean);
    w.a[c] = high;
    w.b[c] = static_cast<float>(mean - static_cast<double>(high));
    w.c[c] = static_cast<float>(inv_std * (a.gamma ? static_cast<double>(a.gamma.ptr()[c]) : 1.0));
    if (a.mean) a.mean.ptr()[c] = high;
    if (a.inv_std) a.inv_std.ptr()[c] = static_cast<float>(inv_std);
  }
  void store_and_move(int64_t c, double mean, double centred, double n) const {
    store(c, mean, centred / n);
    if (!a.running_mean) return;
    float &running_mean = a.running_mean.ptr()[c], &running_var = a.running_var.ptr()[c];
    const double momentum = a.momentum;
    running_mean = static_cast<float>((1.0 - momentum) * running_mean + momentum * mean);
    running_var = static_cast<float>((1.0 - momentum) * running_var + momentum * (centred / (n - 1.0)));
  }
  void apply(const Maps& m) const {
    const float *x = a.x.ptr(), *high = w.a, *low = w.b, *scale = w.c, *beta = w.d;
    float* y = a.y.ptr();
    const float slope = a.negative_slope;
    for (float* row : {w.a, w.b, w.c}) unfold_in_place(m, row);
    m.unfold(a.beta.ptr(), 0.0f, w.d);
    with_activation(a.activation, [&](auto kind) {
      for_maps(m, [=](int64_t offset, int n, const auto& place) __attribute__((always_inline)) {
        const vf z = ((load_part(x + offset, n) - place(high)) - place(low)) * place(scale) + place(beta);
        store_part(y + offset, activate(z, kind(), slope), n);
      });
    });
  }
};

// found(c, mean, sum of squares around it); `shift` is a row to work in.
template <class Found>
void channel_moments(const Maps& m, const float* x, float* shift, double* partials, const Found& found) {
  for (int64_t c = 0; c < m.C; ++c) shift[c] = x[c * m.inner];  // the channel's first value
  if (!m.planes()) unfold_in_place(m, shift);
  const auto term = [=](int64_t offset, int n, const auto& place, vf& u, vf& v) __attribute__((always_inline)) {
    u = load_part(x + offset, n) - place(shift);
    v = u;
  };
  const double n = static_cast<double>(m.outer) * static_cast<double>(m.inner);
  channel_sums<true>(m, term, partials, [&](int64_t c, double sum, double squares) {
    const double shifted = sum / n;
    double centred = squares - sum * shifted;
    if (centred < 0.0) centred = 0.0;  // not fmax: a NaN stays one
    found(c, static_cast<double>(shift[c]) + shifted, centred);
  });
}

void batch_norm_forward_run(const BatchNormForward& a, const Context& context) {
  const Maps m(a.outer, a.C, a.inner);
  const Workspace w(m, a.training != 0, context.workspace);
  const Statistics<BatchNormForward> statistics{a, w};
  const double n = static_cast<double>(a.outer) * static_cast<double>(a.inner);
  if (a.training)
    channel_moments(m, a.x.ptr(), w.d, w.partials,  // beta takes the row later
                    [&](int64_t c, double mean, double centred) { statistics.store_and_move(c, mean, centred, n); });
  else
    for (int64_t c = 0; c < m.C; ++c) statistics.store(c, a.running_mean.ptr()[c], a.running_var.ptr()[c]);
  statistics.apply(m);
}

void batch_norm_moments_run(const BatchNormMoments& a, const Context& context) {
  const Maps m(a.outer, a.C, a.inner);
  const Workspace w(m, true, context.workspace);
  double* moments = a.moments.ptr<double>();
  moments[2 * a.C] = static_cast<double>(a.outer) * static_cast<double>(a.inner);
  channel_moments(m, a.x.ptr(), w.d, w.partials,
                  [&](int64_t c, double mean, double centred) { moments[c] = mean, moments[a.C + c] = centred; });
}

void batch_norm_apply_run(const BatchNormApply& a, const Context& context) {
  const Maps m(a.outer, a.C, a.inner);
  const Workspace w(m, false, context.workspace);
  const Statistics<BatchNormApply> statistics{a, w};
  const double* moments = a.moments.ptr<double>();
  for (int64_t c = 0; c < m.C; ++c) statistics.store_and_move(c, moments[c], moments[a.C + c], moments[2 * a.C]);
  statistics.apply(m);
}

// The gradient before the activation, and what is made of its sums. Args: of any of the backward entries.
template <Activation kind, class Args>
struct Gradient {
  const Args& a;
  const Maps m;
  const Workspace w;
  Gradient(const Args& args, bool sums, const Context& context)
      : a(args), m(args.outer, args.C, args.inner), w(m, sums, context.workspace) {
    m.unfold(a.mean.ptr(), 0.0f, w.a);
  }

  auto before_activation() const {
    const float *dy = a.dy.ptr(), *y = a.y.ptr(), slope = a.negative_slope;
    return [=](int64_t offset, int n) __attribute__((always_inline)) {
      const vf g = load_part(dy + offset, n);
      return kind == Activation::none ? g : activate_backward(g, load_part(y + offset, n), kind, slope);
    };
  }

  template <class Found>
  void sums(const Found& found) const {  // found(c, sum g, sum g * (x - mean))
    const float *x = a.x.ptr(), *mean = w.a;
    const auto gradient = before_activation();
    const auto term = [=](int64_t offset, int n, const auto& place, vf& u, vf& v) __attribute__((always_inline)) {
      u = gradient(offset, n);
      v = load_part(x + offset, n) - place(mean);
    };
    channel_sums<false>(m, term, w.partials, found);
  }

  void store(int64_t c, double sum, double product) const {
    if (a.dgamma) a.dgamma.ptr()[c] = static_cast<float>(product * a.inv_std.ptr()[c]);
    if (a.dbeta) a.dbeta.ptr()[c] = static_cast<float>(sum);
  }

  void coefficients(int64_t c, double sum, double product) const {
    const double inv = a.inv_std.ptr()[c], scale = inv * (a.gamma ? static_cast<double>(a.gamma.ptr()[c]) : 1.0);
    const double n = static_cast<double>(a.outer) * static_cast<double>(a.inner);
    w.b[c] = static_cast<float>(scale);
    w.c[c] = static_cast<float>(-scale * inv * inv * product / n);
    w.d[c] = static_cast<float>(-scale * sum / n);
  }

  void apply(bool training) const {
    const float *x = a.x.ptr(), *mean = w.a, *by_gradient = w.b, *by_x = w.c, *shift = w.d;
    float* dx = a.dx.ptr();
    const auto gradient = before_activation();
    for (float* row : {w.b, w.c, w.d}) unfold_in_place(m, row);
    if (training)
      for_maps(m, [=](int64_t offset, int n, const auto& place) __attribute__((always_inline)) {
        const vf g = gradient(offset, n), centred = load_part(x + offset, n) - place(mean);
        store_part(dx + offset, g * place(by_gradient) + (centred * place(by_x) + place(shift)), n);
      });
    else
      for_maps(m, [=](int64_t offset, int n, const auto& place)
                      __attribute__((always_inline)) { store_part(dx + offset, gradient(offset, n) * place(by_gradient), n); });
  }
};

template <Activation kind>
void backward_of(const BatchNormBackward& a, const Context& context) {
  const Gradient<kind, BatchNormBackward> g(a, true, context);
  const auto found = [&](int64_t c, double sum, double product) {
    g.store(c, sum, product);
    g.coefficients(c, sum, product);
  };
  if (a.training || a.dgamma || a.dbeta) {
    g.sums(found);
  } else {
    for (int64_t c = 0; c < a.C; ++c) found(c, 0.0, 0.0);
  }
  if (a.dx) g.apply(a.training);
}

template <Activation kind>
void gradient_sums_of(const BatchNormGradientSums& a, const Context& context) {
  const Gradient<kind, BatchNormGradientSums> g(a, true, context);
  double* sums = a.sums.ptr<double>();
  g.sums([&](int64_t c, double sum, double product) {
    sums[c] = sum, sums[a.C + c] = product;
    g.store(c, sum, product);
  });
}

template <Activation kind>
void gradient_apply_of(const BatchNormGradientApply& a, const Context& context) {
  const Gradient<kind, BatchNormGradientApply> g(a, false, context);
  const double* sums = a.sums.ptr<double>();
  for (int64_t c = 0; c < a.C; ++c) g.coefficients(c, sums[c], sums[a.C + c]);
  g.apply(true);
}

void batch_norm_backward_run(const BatchNormBackward& a, const Context& context) {
  with_activation(a.activation, [&](auto kind) { backward_of<kind()>(a, context); });
}
void batch_norm_gradient_sums_run(const BatchNormGradientSums& a, const Context& context) {
  with_activation(a.activation, [&](auto kind) { gradient_sums_of<kind()>(a, context); });
}
void batch_norm_gradient_apply_run(const BatchNormGradientApply& a, const Context& context) {
  with_activation(a.activation, [&](auto kind) { gradient_apply_of<kind()>(a, context); });
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
  return {batch_norm_backward_run, active_map_error<BatchNormBackward>, batch_norm_workspace<BatchNormBackward, true>, nullptr};
}
Entry<BatchNormMoments> batch_norm_moments() {
  return {batch_norm_moments_run, batch_norm_moments_error, batch_norm_workspace<BatchNormMoments, true>, nullptr};
}
Entry<BatchNormApply> batch_norm_apply() {
  return {batch_norm_apply_run, active_map_error<BatchNormApply>, batch_norm_workspace<BatchNormApply, false>, nullptr};
}
Entry<BatchNormGradientSums> batch_norm_gradient_sums() {
  return {batch_norm_gradient_sums_run, active_map_error<BatchNormGradientSums>,
          batch_norm_workspace<BatchNormGradientSums, true>, nullptr};
}
Entry<BatchNormGradientApply> batch_norm_gradient_apply() {
  return {batch_norm_gradient_apply_run, active_map_error<BatchNormGradientApply>,
          batch_norm_workspace<BatchNormGradientApply, false>, nullptr};
}
Entry<BatchNormFold> batch_norm_fold() { return {batch_norm_fold_run, plain_map_error<BatchNormFold>, fold_workspace, nullptr}; }

}  // namespace warploom::cpu
