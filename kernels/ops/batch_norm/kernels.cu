// batch_norm/kernels.cu: y = activation((x - mean) / sqrt(var + eps) * gamma + beta), its gradients, and its folding into weights
// Layout: maps [outer, C, inner], NCHW as (N, C, H*W), NHWC as (N*H*W, C, 1); parameters and statistics f32[C]; workspace: partial
//   sums f64[C, splits, 2], then three coefficients f32[C] for the elementwise pass.
// Sums: a block owns a channel's (or 32 units of channels') share of outer and inner, see channel_sums.cuh; one warp per channel then
//   makes the coefficients; the elementwise pass gives each thread four units of four elements, see ../maps.cuh.
// In training also in two halves each, between which sums of several shards may be put together: the same launches, cut in two.
// One implementation for all versions: two passes over x forward, one reduction and one elementwise pass backward, the activation
//   folded into both. Expected bottleneck: memory bandwidth. The mean travels as two floats, so that x - mean is right for mean
//   >> std.
// Preconditions: C * inner < 2^31 - 4096; training needs outer * inner > 1. y may be x, dx may be dy (hence no __restrict__).
#include "../channel_sums.cuh"
#include "../shared.h"
#include "kernels/common/activation.cuh"

namespace warploom::shared {
inline namespace batch_norm_kernels {

// u = x minus the channel's first value: a shift that the mean is near, or at least some values are.
struct StatisticsTerm {
  static constexpr bool kSquares = true;
  struct Channel {
    float shift = 0.0f;
  };
  const float* x;  // [outer, C, inner]
  int64_t inner;
  __device__ __forceinline__ Channel channel(int64_t c) const { return {x[c * inner]}; }
  template <int kVector>
  __device__ __forceinline__ void load(int64_t offset, const Channel* channels, int step, float* u, float* v) const {
    const Floats<kVector> f = load_floats<kVector>(x + offset);
    WL_UNROLL
    for (int e = 0; e < kVector; ++e) u[e] = f.v[e] - channels[e * step].shift, v[e] = 0.0f;
  }
};

// u = the gradient before the activation, v = x - mean.
struct GradientTerm {
  static constexpr bool kSquares = false;
  struct Channel {
    float mean = 0.0f;
  };
  const float *dy, *x, *y, *mean;  // [outer, C, inner], y: null without activation; [C]
  Activation activation;
  float slope;
  __device__ __forceinline__ Channel channel(int64_t c) const { return {mean[c]}; }
  template <int kVector>
  __device__ __forceinline__ void load(int64_t offset, const Channel* channels, int step, float* u, float* v) const {
    const Floats<kVector> g = load_floats<kVector>(dy + offset), f = load_floats<kVector>(x + offset);
    const Floats<kVector> out = activation == Activation::none ? g : load_floats<kVector>(y + offset);
    WL_UNROLL
    for (int e = 0; e < kVector; ++e) {
      u[e] = activation_gradient(activation, g.v[e], out.v[e], slope);
      v[e] = f.v[e] - channels[e * step].mean;
    }
  }
};

struct Forward {  // what the small kernels need of BatchNormForward
  int64_t C, inner, count;
  float momentum, eps;
  const float *x, *gamma;                              // [outer, C, inner]; [C] or null
  float *running_mean, *running_var, *mean, *inv_std;  // [C]; may be null
  float *high, *low, *scale;                           // [C]: mean = high + low; gamma * inv_std
};

__device__ __forceinline__ void store_statistics(const Forward& f, int64_t c, double mean, double variance) {
  const double inv_std = 1.0 / sqrt(variance + static_cast<double>(f.eps));
  const float high = static_cast<float>(mean);
  f.high[c] = high;
  f.low[c] = static_cast<float>(mean - static_cast<double>(high));
  f.scale[c] = static_cast<float>(inv_std * (f.gamma ? static_cast<double>(f.gamma[c]) : 1.0));
  if (f.mean) f.mean[c] = high;
  if (f.inv_std) f.inv_std[c] = static_cast<float>(inv_std);
}

__device__ __forceinline__ void move_running(const Forward& f, int64_t c, double mean, double centred, double n) {
  const double momentum = f.momentum;
  f.running_mean[c] = static_cast<float>((1.0 - momentum) * f.running_mean[c] + momentum * mean);
  f.running_var[c] = static_cast<float>((1.0 - momentum) * f.running_var[c] + momentum * (centred / (n - 1.0)));
}

// The mean, and the squares around it, from sums of x minus the channel's first value; by a whole warp, right in its first lane.
__device__ __forceinline__ void channel_moments(const double* __restrict__ partials, int splits, double n, float first,
                                                double& mean, double& centred) {
  double sum, squares;
  merge_partials(partials, splits, sum, squares);
  const double shifted = sum / n;
  centred = squares - sum * shifted;
  if (centred < 0.0) centred = 0.0;  // not fmax: a NaN stays one
  mean = static_cast<double>(first) + shifted;
}

// One warp per channel.
__global__ void batch_norm_statistics_kernel(Forward f, int splits, const double* __restrict__ partials) {  // [C, splits, 2]
  const int64_t c = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (c >= f.C) return;
  const double n = static_cast<double>(f.count);
  double mean, centred;
  channel_moments(partials + c * splits * 2, splits, n, f.x[c * f.inner], mean, centred);
  if (threadIdx.x % 32 != 0) return;
  store_statistics(f, c, mean, centred / n);
  move_running(f, c, mean, centred, n);
}

// One warp per channel.
__global__ void batch_norm_moments_kernel(int64_t C, int64_t inner, int64_t count,
                                          const float* __restrict__ x,                      // [outer, C, inner]
                                          int splits, const double* __restrict__ partials,  // [C, splits, 2]
                                          double* __restrict__ moments) {                   // [2 C + 1]
  const int64_t c = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (c >= C) return;
  const double n = static_cast<double>(count);
  double mean, centred;
  channel_moments(partials + c * splits * 2, splits, n, x[c * inner], mean, centred);
  if (threadIdx.x % 32 != 0) return;
  moments[c] = mean, moments[C + c] = centred;
  if (c == 0) moments[2 * C] = n;
}

__global__ void batch_norm_merged_kernel(Forward f, const double* __restrict__ moments) {  // [2 C + 1]
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= f.C) return;
  const double mean = moments[c], centred = moments[f.C + c], n = moments[2 * f.C];
  store_statistics(f, c, mean, centred / n);
  if (f.running_mean) move_running(f, c, mean, centred, n);
}

__global__ void batch_norm_running_kernel(Forward f) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c < f.C) store_statistics(f, c, f.running_mean[c], f.running_var[c]);
}

template <int kVector, bool kAcross>
__global__ void batch_norm_apply_kernel(Map map, Activation activation, float slope, const float* x,      // [outer, C, inner]
                                        const float* __restrict__ high, const float* __restrict__ low,    // [C]
                                        const float* __restrict__ scale, const float* __restrict__ beta,  // [C], beta or null
                                        float* y) {                                                       // [outer, C, inner]
  for_map<kVector, kAcross>(
      map, [=](int64_t offset) { return load_floats<kVector>(x + offset); },
      [=](const Place& place, Floats<kVector> f) {
        const auto a = load_channels<kVector, kAcross>(high, place.channel, 0.0f);
        const auto b = load_channels<kVector, kAcross>(low, place.channel, 0.0f);
        const auto s = load_channels<kVector, kAcross>(scale, place.channel, 1.0f);
        const auto t = load_channels<kVector, kAcross>(beta, place.channel, 0.0f);
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) f.v[e] = activate(activation, ((f.v[e] - a.v[e]) - b.v[e]) * s.v[e] + t.v[e], slope);
        store_floats<kVector>(y + place.offset, f);
      });
}

struct Backward {
  int64_t C, count;
  int training;
  const float *gamma, *inv_std;        // [C], gamma or null
  float *dgamma, *dbeta;               // [C] or null
  float *by_gradient, *by_x, *offset;  // [C] or null: dx = by_gradient * g + by_x * (x - mean) + offset
};

__device__ __forceinline__ void store_gradients(const Backward& b, int64_t c, double sum, double product) {
  if (b.dgamma) b.dgamma[c] = static_cast<float>(product * b.inv_std[c]);
  if (b.dbeta) b.dbeta[c] = static_cast<float>(sum);
}
__device__ __forceinline__ void store_coefficients(const Backward& b, int64_t c, double sum, double product) {
  const double inv_std = b.inv_std[c];
  const double slope = inv_std * (b.gamma ? static_cast<double>(b.gamma[c]) : 1.0), n = static_cast<double>(b.count);
  b.by_gradient[c] = static_cast<float>(slope);
  if (b.training) {
    b.by_x[c] = static_cast<float>(-slope * inv_std * inv_std * product / n);
    b.offset[c] = static_cast<float>(-slope * sum / n);
  }
}

// One warp per channel.
__global__ void batch_norm_gradients_kernel(Backward b, int splits, const double* __restrict__ partials) {  // [C, splits, 2]
  const int64_t c = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (c >= b.C) return;
  double sum = 0.0, product = 0.0;
  if (splits) merge_partials(partials + c * splits * 2, splits, sum, product);
  if (threadIdx.x % 32 != 0) return;
  store_gradients(b, c, sum, product);
  if (b.by_gradient) store_coefficients(b, c, sum, product);
}

// One warp per channel.
__global__ void batch_norm_shard_sums_kernel(Backward b, int splits, const double* __restrict__ partials,  // [C, splits, 2]
                                             double* __restrict__ sums) {                                  // [2 C]
  const int64_t c = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (c >= b.C) return;
  double sum, product;
  merge_partials(partials + c * splits * 2, splits, sum, product);
  if (threadIdx.x % 32 != 0) return;
  sums[c] = sum, sums[b.C + c] = product;
  store_gradients(b, c, sum, product);
}

__global__ void batch_norm_coefficients_kernel(Backward b, const double* __restrict__ sums) {  // [2 C]
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c < b.C) store_coefficients(b, c, sums[c], sums[b.C + c]);
}

template <int kVector>
struct GradientUnit {
  Floats<kVector> dy, x, y;
};

template <int kVector, bool kAcross>
__global__ void batch_norm_backward_kernel(Map map, int training, Activation activation, float slope, const float* dy,
                                           const float* x, const float* y,         // [outer, C, inner], y or null
                                           const float* __restrict__ mean,         // [C]
                                           const float* __restrict__ by_gradient,  // [C]
                                           const float* __restrict__ by_x,         // [C]
                                           const float* __restrict__ shift,        // [C]
                                           float* dx) {                            // [outer, C, inner]
  for_map<kVector, kAcross>(
      map,
      [=](int64_t offset) {
        GradientUnit<kVector> u;
        u.dy = u.x = u.y = load_floats<kVector>(dy + offset);
        if (training) u.x = load_floats<kVector>(x + offset);
        if (activation != Activation::none) u.y = load_floats<kVector>(y + offset);
        return u;
      },
      [=](const Place& place, const GradientUnit<kVector>& u) {
        Floats<kVector> f;
        const auto a = load_channels<kVector, kAcross>(by_gradient, place.channel, 1.0f);
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) f.v[e] = a.v[e] * activation_gradient(activation, u.dy.v[e], u.y.v[e], slope);
        if (training) {
          const auto m = load_channels<kVector, kAcross>(mean, place.channel, 0.0f);
          const auto b = load_channels<kVector, kAcross>(by_x, place.channel, 0.0f);
          const auto t = load_channels<kVector, kAcross>(shift, place.channel, 0.0f);
          WL_UNROLL
          for (int e = 0; e < kVector; ++e) f.v[e] += b.v[e] * (u.x.v[e] - m.v[e]) + t.v[e];
        }
        store_floats<kVector>(dx + place.offset, f);
      });
}

struct Folding {
  float eps;
  const float *bias, *gamma, *beta, *running_mean, *running_var;  // [C]; the first three may be null
  __device__ __forceinline__ float scale(int64_t c) const { return (gamma ? gamma[c] : 1.0f) / sqrtf(running_var[c] + eps); }
};

template <int kVector, bool kAcross>
__global__ void batch_norm_fold_weights_kernel(Map map, Folding fold, const float* __restrict__ w,  // [outer, C, inner]
                                               float* __restrict__ w_out) {                         // [outer, C, inner]
  for_map<kVector, kAcross>(
      map, [=](int64_t offset) { return load_floats<kVector>(w + offset); },
      [=](const Place& place, Floats<kVector> f) {
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) f.v[e] *= fold.scale(kAcross ? place.channel + e : place.channel);
        store_floats<kVector>(w_out + place.offset, f);
      });
}

__global__ void batch_norm_fold_bias_kernel(int64_t C, Folding fold, float* __restrict__ b_out) {  // [C]
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= C) return;
  const float centred = (fold.bias ? fold.bias[c] : 0.0f) - fold.running_mean[c];
  b_out[c] = centred * fold.scale(c) + (fold.beta ? fold.beta[c] : 0.0f);
}

// The workspace: partial sums, where the call makes any, then three rows of coefficients.
template <class Args>
int64_t partial_bytes(const Args& a) {
  return channel_sums_bytes(a.outer, a.C, a.inner);
}
int64_t partial_bytes(const BatchNormForward& a) { return a.training ? channel_sums_bytes(a.outer, a.C, a.inner) : 0; }
int64_t partial_bytes(const BatchNormApply&) { return 0; }
int64_t partial_bytes(const BatchNormGradientApply&) { return 0; }
template <class Args>
int64_t workspace_bytes(const Args& a) {
  return partial_bytes(a) + 3 * a.C * static_cast<int64_t>(sizeof(float));
}
template <class Args>
float* coefficients(const Args& a, const Context& context) {
  return reinterpret_cast<float*>(context.workspace.ptr<char>() + partial_bytes(a));
}

template <class Args>
Forward forward_of(const Args& a, const Context& context) {
  float* rows = coefficients(a, context);
  return {a.C,
          a.inner,
          a.outer * a.inner,
          a.momentum,
          a.eps,
          a.x.ptr(),
          a.gamma.ptr(),
          a.running_mean.ptr(),
          a.running_var.ptr(),
          a.mean.ptr(),
          a.inv_std.ptr(),
          rows,
          rows + a.C,
          rows + 2 * a.C};
}

template <class Args>
void launch_apply(const Args& a, const Forward& f, const Context& context) {
  const bool aligned = aligned16(a.x.data, a.y.data, a.beta.data, f.high);
  with_map(a.outer, a.C, a.inner, aligned, [&](const Map& map, auto vector, auto across) {
    launch(context, "shared::batch_norm_apply_kernel", batch_norm_apply_kernel<vector(), across()>, map_grid(map), dim3(kThreads),
           0, map, a.activation, a.negative_slope, a.x.ptr(), f.high, f.low, f.scale, a.beta.ptr(), a.y.ptr());
  });
}

template <class Args>
int launch_statistics_sums(const Args& a, double* partials, const Context& context) {
  const StatisticsTerm term = {a.x.ptr(), a.inner};
  return launch_channel_sums(context, "shared::batch_norm_sums_kernel", term, a.outer, a.C, a.inner, aligned16(a.x.data),
                             partials);
}

void run_forward(const BatchNormForward& a, const Context& context) {
  double* partials = context.workspace.ptr<double>();
  const Forward f = forward_of(a, context);
  if (a.training) {
    const int splits = launch_statistics_sums(a, partials, context);
    launch(context, "shared::batch_norm_statistics_kernel", batch_norm_statistics_kernel, dim3(blocks_for(a.C, kThreads / 32)),
           dim3(kThreads), 0, f, splits, partials);
  } else {
    launch(context, "shared::batch_norm_running_kernel", batch_norm_running_kernel, dim3(blocks_for(a.C, kThreads)),
           dim3(kThreads), 0, f);
  }
  launch_apply(a, f, context);
}

void run_moments(const BatchNormMoments& a, const Context& context) {
  double* partials = context.workspace.ptr<double>();
  const int splits = launch_statistics_sums(a, partials, context);
  launch(context, "shared::batch_norm_moments_kernel", batch_norm_moments_kernel, dim3(blocks_for(a.C, kThreads / 32)),
         dim3(kThreads), 0, a.C, a.inner, a.outer * a.inner, a.x.ptr(), splits, partials, a.moments.ptr<double>());
}

void run_apply(const BatchNormApply& a, const Context& context) {
  const Forward f = forward_of(a, context);
  launch(context, "shared::batch_norm_merged_kernel", batch_norm_merged_kernel, dim3(blocks_for(a.C, kThreads)), dim3(kThreads),
         0, f, a.moments.ptr<double>());
  launch_apply(a, f, context);
}

template <class Args>
int launch_gradient_sums(const Args& a, double* partials, const Context& context) {
  const GradientTerm term = {a.dy.ptr(), a.x.ptr(), a.y.ptr(), a.mean.ptr(), a.activation, a.negative_slope};
  return launch_channel_sums(context, "shared::batch_norm_gradient_sums_kernel", term, a.outer, a.C, a.inner,
                             aligned16(a.dy.data, a.x.data, a.y.data), partials);
}

template <class Args>
void launch_gradient(const Args& a, const Backward& b, const Context& context) {
  const bool aligned = aligned16(a.dy.data, a.x.data, a.y.data, a.dx.data, a.mean.data, b.by_gradient);
  with_map(a.outer, a.C, a.inner, aligned, [&](const Map& map, auto vector, auto across) {
    launch(context, "shared::batch_norm_backward_kernel", batch_norm_backward_kernel<vector(), across()>, map_grid(map),
           dim3(kThreads), 0, map, b.training, a.activation, a.negative_slope, a.dy.ptr(), a.x.ptr(), a.y.ptr(), a.mean.ptr(),
           b.by_gradient, b.by_x, b.offset, a.dx.ptr());
  });
}

void run_backward(const BatchNormBackward& a, const Context& context) {
  double* partials = context.workspace.ptr<double>();
  float* rows = coefficients(a, context);
  const bool sums = a.dgamma || a.dbeta || a.training;
  const int splits = sums ? launch_gradient_sums(a, partials, context) : 0;
  float* by_gradient = a.dx ? rows : nullptr;
  const Backward b = {a.C,           a.outer * a.inner, a.training, a.gamma.ptr(), a.inv_std.ptr(), a.dgamma.ptr(),
                      a.dbeta.ptr(), by_gradient,       rows + a.C, rows + 2 * a.C};
  launch(context, "shared::batch_norm_gradients_kernel", batch_norm_gradients_kernel, dim3(blocks_for(a.C, kThreads / 32)),
         dim3(kThreads), 0, b, splits, partials);
  if (a.dx) launch_gradient(a, b, context);
}

void run_gradient_sums(const BatchNormGradientSums& a, const Context& context) {
  double* partials = context.workspace.ptr<double>();
  const int splits = launch_gradient_sums(a, partials, context);
  const Backward b = {a.C,           a.outer * a.inner, 1,       nullptr, a.inv_std.ptr(), a.dgamma.ptr(),
                      a.dbeta.ptr(), nullptr,           nullptr, nullptr};
  launch(context, "shared::batch_norm_shard_sums_kernel", batch_norm_shard_sums_kernel, dim3(blocks_for(a.C, kThreads / 32)),
         dim3(kThreads), 0, b, splits, partials, a.sums.ptr<double>());
}

void run_gradient_apply(const BatchNormGradientApply& a, const Context& context) {
  float* rows = coefficients(a, context);
  const Backward b = {a.C,     a.outer * a.inner, 1,    a.gamma.ptr(), a.inv_std.ptr(),
                      nullptr, nullptr,           rows, rows + a.C,    rows + 2 * a.C};
  launch(context, "shared::batch_norm_coefficients_kernel", batch_norm_coefficients_kernel, dim3(blocks_for(a.C, kThreads)),
         dim3(kThreads), 0, b, a.sums.ptr<double>());
  launch_gradient(a, b, context);
}

void run_fold(const BatchNormFold& a, const Context& context) {
  const Folding fold = {a.eps, a.bias.ptr(), a.gamma.ptr(), a.beta.ptr(), a.running_mean.ptr(), a.running_var.ptr()};
  with_map(a.outer, a.C, a.inner, aligned16(a.w.data, a.w_out.data), [&](const Map& map, auto vector, auto across) {
    launch(context, "shared::batch_norm_fold_weights_kernel", batch_norm_fold_weights_kernel<vector(), across()>, map_grid(map),
           dim3(kThreads), 0, map, fold, a.w.ptr(), a.w_out.ptr());
  });
  launch(context, "shared::batch_norm_fold_bias_kernel", batch_norm_fold_bias_kernel, dim3(blocks_for(a.C, kThreads)),
         dim3(kThreads), 0, a.C, fold, a.b_out.ptr());
}

}  // namespace batch_norm_kernels

Entry<BatchNormForward> batch_norm_forward() {
  return {run_forward, batch_norm_forward_error, workspace_bytes<BatchNormForward>, nullptr};
}
Entry<BatchNormBackward> batch_norm_backward() {
  return {run_backward, active_map_error<BatchNormBackward>, workspace_bytes<BatchNormBackward>, nullptr};
}
Entry<BatchNormMoments> batch_norm_moments() {
  return {run_moments, batch_norm_moments_error, workspace_bytes<BatchNormMoments>, nullptr};
}
Entry<BatchNormApply> batch_norm_apply() {
  return {run_apply, active_map_error<BatchNormApply>, workspace_bytes<BatchNormApply>, nullptr};
}
Entry<BatchNormGradientSums> batch_norm_gradient_sums() {
  return {run_gradient_sums, active_map_error<BatchNormGradientSums>, workspace_bytes<BatchNormGradientSums>, nullptr};
}
Entry<BatchNormGradientApply> batch_norm_gradient_apply() {
  return {run_gradient_apply, active_map_error<BatchNormGradientApply>, workspace_bytes<BatchNormGradientApply>, nullptr};
}
Entry<BatchNormFold> batch_norm_fold() { return {run_fold, plain_map_error<BatchNormFold>, nullptr, nullptr}; }

}  // namespace warploom::shared
