// Batch normalisation of maps seen as [outer, C, inner]: NCHW is outer = N, inner = H * W; NHWC is outer = N * H * W, inner = 1.
// Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167; running statistics as PyTorch keeps them (unbiased variance).
#pragma once

#include "kernels/args.h"

namespace warploom {

// y = activation((x - mean) * inv_std * gamma + beta), inv_std = 1 / sqrt(variance + eps). training: mean and (biased) variance are
// those of x over outer and inner, and running = (1 - momentum) * running + momentum * (mean, unbiased variance); needs
// outer * inner > 1. Else mean and variance are the running ones, which stay. y may be x (in place).
struct BatchNormForward {
  int64_t outer = 0, C = 0, inner = 0;
  int training = 0;
  float momentum = 0.1f, eps = 1e-5f;
  Activation activation = Activation::none;
  float negative_slope = 0.0f;
  In x, gamma, beta;  // no gamma: 1, no beta: 0
  InOut running_mean, running_var;
  Out y, mean, inv_std;  // mean, inv_std: f32[C], what was used, for the backward entry; empty at inference
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("outer", a.outer), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("training", a.training);
    v.attr("momentum", a.momentum), v.attr("eps", a.eps);
    v.attr("activation", a.activation), v.attr("negative_slope", a.negative_slope);
    const int64_t count = elements(a.outer, a.C, a.inner);
    v.tensor("x", a.x, DType::f32, count, false), v.tensor("gamma", a.gamma, DType::f32, a.C, true);
    v.tensor("beta", a.beta, DType::f32, a.C, true);
    v.tensor("running_mean", a.running_mean, DType::f32, a.C, false);
    v.tensor("running_var", a.running_var, DType::f32, a.C, false);
    v.tensor("y", a.y, DType::f32, count, false), v.tensor("mean", a.mean, DType::f32, a.C, true);
    v.tensor("inv_std", a.inv_std, DType::f32, a.C, true);
  }
};

// g = dy * activation'(y). dbeta = sum g, dgamma = sum g * xhat, xhat = (x - mean) * inv_std; training: dx = gamma * inv_std *
// (g - mean(g) - xhat * mean(g * xhat)), else dx = gamma * inv_std * g. dx may be dy (in place).
struct BatchNormBackward {
  int64_t outer = 0, C = 0, inner = 0;
  int training = 0;
  Activation activation = Activation::none;
  float negative_slope = 0.0f;
  In dy, x, y, gamma, mean, inv_std;  // y: only with an activation
  Out dx, dgamma, dbeta;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("outer", a.outer), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("training", a.training);
    v.attr("activation", a.activation), v.attr("negative_slope", a.negative_slope);
    const int64_t count = elements(a.outer, a.C, a.inner);
    v.tensor("dy", a.dy, DType::f32, count, false), v.tensor("x", a.x, DType::f32, count, false);
    v.tensor("y", a.y, DType::f32, count, true), v.tensor("gamma", a.gamma, DType::f32, a.C, true);
    v.tensor("mean", a.mean, DType::f32, a.C, false), v.tensor("inv_std", a.inv_std, DType::f32, a.C, false);
    v.tensor("dx", a.dx, DType::f32, count, true), v.tensor("dgamma", a.dgamma, DType::f32, a.C, true);
    v.tensor("dbeta", a.dbeta, DType::f32, a.C, true);
  }
};

// The four below are the two above, in training, cut where the shards of a batch may add up what they have: each entry sees a shard,
// and the statistics are those of all (synchronised batch norm).

// moments = mean[C], then the sum of squares around it [C], then how many values a channel has: a set's own, which merge with those
// of other sets (Chan, Golub and LeVeque 1982, https://doi.org/10.1007/978-3-642-51461-6_3).
struct BatchNormMoments {
  int64_t outer = 0, C = 0, inner = 0;
  In x;
  Out moments;  // f64[2 * C + 1]
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("outer", a.outer), v.attr("C", a.C), v.attr("inner", a.inner);
    v.tensor("x", a.x, DType::f32, elements(a.outer, a.C, a.inner), false);
    v.tensor("moments", a.moments, DType::f64, elements(2, a.C) + 1, false);
  }
};

// batch_norm_forward in training by moments from outside. Running statistics that are not given stay as they are.
struct BatchNormApply {
  int64_t outer = 0, C = 0, inner = 0;
  float momentum = 0.1f, eps = 1e-5f;
  Activation activation = Activation::none;
  float negative_slope = 0.0f;
  In x, gamma, beta;                // no gamma: 1, no beta: 0
  In moments;                       // f64[2 * C + 1], of more than one value per channel
  InOut running_mean, running_var;  // both or neither
  Out y, mean, inv_std;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("outer", a.outer), v.attr("C", a.C), v.attr("inner", a.inner);
    v.attr("momentum", a.momentum), v.attr("eps", a.eps);
    v.attr("activation", a.activation), v.attr("negative_slope", a.negative_slope);
    const int64_t count = elements(a.outer, a.C, a.inner);
    v.tensor("x", a.x, DType::f32, count, false), v.tensor("gamma", a.gamma, DType::f32, a.C, true);
    v.tensor("beta", a.beta, DType::f32, a.C, true);
    v.tensor("moments", a.moments, DType::f64, elements(2, a.C) + 1, false);
    v.tensor("running_mean", a.running_mean, DType::f32, a.C, true);
    v.tensor("running_var", a.running_var, DType::f32, a.C, true);
    v.tensor("y", a.y, DType::f32, count, false), v.tensor("mean", a.mean, DType::f32, a.C, true);
    v.tensor("inv_std", a.inv_std, DType::f32, a.C, true);
  }
};

// g = dy * activation'(y). sums = (sum g)[C], then (sum g * (x - mean))[C]; dbeta = sum g, dgamma = inv_std * sum g * (x - mean).
struct BatchNormGradientSums {
  int64_t outer = 0, C = 0, inner = 0;
  Activation activation = Activation::none;
  float negative_slope = 0.0f;
  In dy, x, y, mean, inv_std;  // y: only with an activation
  Out sums, dgamma, dbeta;     // sums: f64[2 * C]
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("outer", a.outer), v.attr("C", a.C), v.attr("inner", a.inner);
    v.attr("activation", a.activation), v.attr("negative_slope", a.negative_slope);
    const int64_t count = elements(a.outer, a.C, a.inner);
    v.tensor("dy", a.dy, DType::f32, count, false), v.tensor("x", a.x, DType::f32, count, false);
    v.tensor("y", a.y, DType::f32, count, true), v.tensor("mean", a.mean, DType::f32, a.C, false);
    v.tensor("inv_std", a.inv_std, DType::f32, a.C, false), v.tensor("sums", a.sums, DType::f64, elements(2, a.C), false);
    v.tensor("dgamma", a.dgamma, DType::f32, a.C, true), v.tensor("dbeta", a.dbeta, DType::f32, a.C, true);
  }
};

// dx of batch_norm_backward in training, by sums from outside: dx = gamma * inv_std * (g - (sum g + (x - mean) * inv_std^2 *
// sum g * (x - mean)) / n), n = outer * inner. A gradient of the mean over a shard is the shard's share of the batch smaller in the
// mean over the batch, and so are the sums to be: then n is the shard's own. dx may be dy (in place).
struct BatchNormGradientApply {
  int64_t outer = 0, C = 0, inner = 0;
  Activation activation = Activation::none;
  float negative_slope = 0.0f;
  In dy, x, y, gamma, mean, inv_std, sums;  // y: only with an activation; sums: f64[2 * C]
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("outer", a.outer), v.attr("C", a.C), v.attr("inner", a.inner);
    v.attr("activation", a.activation), v.attr("negative_slope", a.negative_slope);
    const int64_t count = elements(a.outer, a.C, a.inner);
    v.tensor("dy", a.dy, DType::f32, count, false), v.tensor("x", a.x, DType::f32, count, false);
    v.tensor("y", a.y, DType::f32, count, true), v.tensor("gamma", a.gamma, DType::f32, a.C, true);
    v.tensor("mean", a.mean, DType::f32, a.C, false), v.tensor("inv_std", a.inv_std, DType::f32, a.C, false);
    v.tensor("sums", a.sums, DType::f64, elements(2, a.C), false), v.tensor("dx", a.dx, DType::f32, count, false);
  }
};

// A batch norm in inference mode folded into the convolution before it: w_out = w * scale, b_out = (bias - mean) * scale + beta,
// scale = gamma / sqrt(var + eps). w is seen as [outer, C, inner] with C the output channels: oihw and ohwi are (1, C_out, rest),
// hwio is (rest, C_out, 1).
struct BatchNormFold {
  int64_t outer = 0, C = 0, inner = 0;
  float eps = 1e-5f;
  In w, bias, gamma, beta, running_mean, running_var;  // no bias: 0
  Out w_out, b_out;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("outer", a.outer), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("eps", a.eps);
    const int64_t count = elements(a.outer, a.C, a.inner);
    v.tensor("w", a.w, DType::f32, count, false), v.tensor("bias", a.bias, DType::f32, a.C, true);
    v.tensor("gamma", a.gamma, DType::f32, a.C, true), v.tensor("beta", a.beta, DType::f32, a.C, true);
    v.tensor("running_mean", a.running_mean, DType::f32, a.C, false);
    v.tensor("running_var", a.running_var, DType::f32, a.C, false);
    v.tensor("w_out", a.w_out, DType::f32, count, false), v.tensor("b_out", a.b_out, DType::f32, a.C, false);
  }
};

}  // namespace warploom
