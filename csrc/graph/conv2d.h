// conv2d.h - what a convolution node asks of a table: its shape, what is folded into it, and its backward steps; shared by the
// operations that are convolutions (kernels/ops/conv2d, upsample_weights) and by the planner's fusion offers.
#pragma once

#include <string>

#include "csrc/graph/graph.h"
#include "kernels/ops.h"

namespace warploom {

Conv2dShape conv2d_shape(const Graph& graph, const Node& node, int batch);
Fusion conv2d_fusion(const Node& node);
Fusion conv2d_fusion(const Graph& graph, const Node& node);  // and how its maps are stored
Fusion plain_fusion(const Node& node);                       // nothing folded in; the precision asked for
// Backward steps, given a way to ask the table. The activation is unfolded from the backward pass (its own step, on y) where the
// backward entries want plain gradients; pool and upsample must be taken by all entries or by none.
struct BackwardChoice {
  bool combined = false;  // one conv2d_backward call
  bool separate_activation = false;
  Fusion fusion;    // what the backward entries are given
  std::string why;  // not empty: no way
};

template <class Args>
Args with_shape(const Conv2dShape& s, const Fusion& f) {
  Args a;
  a.s = s;
  a.fusion = f;
  return a;
}

BackwardChoice choose_backward(const OpTable& table, const Conv2dShape& s, const Fusion& fusion);

// What the node asks of conv2d_mean_forward; its pool is mean_kernel and mean_stride.
Conv2dMeanForward conv2d_mean(const Graph& graph, const Node& node, int batch);
// "" if the table can run it.
std::string conv2d_mean_refusal(const OpTable& table, const Graph& graph, const Node& node, int batch);

// "" if the table can run the node, forward and (training) backward, with its fused attributes; else the first reason.
std::string conv2d_refusal(const OpTable& table, const Graph& graph, const Node& node, int batch, bool training);

}  // namespace warploom
