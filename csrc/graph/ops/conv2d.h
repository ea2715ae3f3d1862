// conv2d.h - the argument structs of a convolution node, shared by its operation and by the planner's fusion offers.
#pragma once

#include <string>

#include "csrc/graph/graph.h"
#include "kernels/ops.h"

namespace warploom {

Conv2dShape conv2d_shape(const Graph& graph, const Node& node, int batch);
Fusion conv2d_fusion(const Node& node);
Fusion plain_fusion(const Node& node);  // nothing folded in; the precision asked for
// "" if the table can run the node, forward and (training) backward, with its fused attributes; else the first reason.
std::string conv2d_refusal(const OpTable& table, const Graph& graph, const Node& node, int batch, bool training);

}  // namespace warploom
