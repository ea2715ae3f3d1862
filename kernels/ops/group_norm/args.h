// Normalisation of groups of channels, sample by sample; with one group, layer normalisation over (C, H, W). Sources: Wu and He 2018,
// https://arxiv.org/abs/1803.08494; Ba, Kiros and Hinton 2016, https://arxiv.org/abs/1607.06450.
#pragma once

#include "kernels/args.h"

namespace warploom {

// y = (x - mean) * inv_std * gamma[c] + beta[c]; mean and inv_std = 1 / sqrt(variance + eps) (the biased variance) over the C / groups
// channels of a group and all their positions, for each sample.
struct GroupNormForward {
  int64_t N = 0, C = 0, inner = 0;  // the map [N, C, inner], in memory as `layout` says
  int64_t groups = 1;
  Layout layout = Layout::nchw;
  float eps = 1e-5f;
  In x, gamma, beta;     // gamma, beta: f32[C]; empty: 1 and 0
  Out y, mean, inv_std;  // f32[N, groups], for the backward entry; empty at inference
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("groups", a.groups), v.attr("layout", a.layout);
    v.attr("eps", a.eps);
    v.tensor("x", a.x, DType::f32, a.N * a.C * a.inner, false);
    v.tensor("gamma", a.gamma, DType::f32, a.C, true), v.tensor("beta", a.beta, DType::f32, a.C, true);
    v.tensor("y", a.y, DType::f32, a.N * a.C * a.inner, false);
    v.tensor("mean", a.mean, DType::f32, a.N * a.groups, true), v.tensor("inv_std", a.inv_std, DType::f32, a.N * a.groups, true);
  }
};
// xhat = (x - mean) * inv_std. dbeta = sum dy, dgamma = sum dy * xhat over samples and positions; with g = dy * gamma:
// dx = inv_std * (g - mean(g) - xhat * mean(g * xhat)), the means over the group.
struct GroupNormBackward {
  int64_t N = 0, C = 0, inner = 0;
  int64_t groups = 1;
  Layout layout = Layout::nchw;
  In dy, x, gamma, mean, inv_std;
  Out dx, dgamma, dbeta;  // dx, dgamma, dbeta empty: not wanted
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("inner", a.inner), v.attr("groups", a.groups), v.attr("layout", a.layout);
    v.tensor("dy", a.dy, DType::f32, a.N * a.C * a.inner, false), v.tensor("x", a.x, DType::f32, a.N * a.C * a.inner, false);
    v.tensor("gamma", a.gamma, DType::f32, a.C, true);
    v.tensor("mean", a.mean, DType::f32, a.N * a.groups, false);
    v.tensor("inv_std", a.inv_std, DType::f32, a.N * a.groups, false);
    v.tensor("dx", a.dx, DType::f32, a.N * a.C * a.inner, true);
    v.tensor("dgamma", a.dgamma, DType::f32, a.C, true), v.tensor("dbeta", a.dbeta, DType::f32, a.C, true);
  }
};

}  // namespace warploom
