// passes.h - graph in, graph out. Each pass does one thing and can be tested alone; ids of values and parameters stay valid.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "csrc/graph/graph.h"

namespace warploom {

// Only what the given values need; they become the outputs.
Graph prune(const Graph& graph, const std::vector<int>& values);

// Asked before a fusion is made: the convolution with the additional attributes (activation, negative_slope, pool, upsample) as
// it would stand in the graph. "" accepts, else the reason of the refusal.
using Offer = std::function<std::string(const Graph& graph, const Node& fused)>;

// Folds what surrounds a convolution into it, where the offer is accepted: an activation after it, then a max pool (kernel ==
// stride) after that, and a nearest upsample before it. A value that somebody else reads, or that is an output, stays.
Graph fuse_convolutions(const Graph& graph, const Offer& offer, std::vector<std::string>* refusals);

// An activation of in_epilogues() into the node before it, where that node takes one whatever the version (batch norm, transposed
// convolution).
Graph fuse_activations(const Graph& graph);

// A nearest upsample by 2 and the 3x3 convolution after it (stride 1, padding 1) that the version did not fold itself become one node
// upsample_conv2d: four 2x2 convolutions of the small map, 16 instead of 36 products for each of its pixels, by exact algebra.
Graph fold_upsamples(const Graph& graph);

// Inference only: an average pool into the convolution (with what is folded into it) before it, where the offer is accepted; the node
// becomes a conv2d_mean with the pool's window and step as mean_kernel and mean_stride.
Graph fold_avg_pools(const Graph& graph, const Offer& offer, std::vector<std::string>* refusals);

// Inference only: a batch norm into the convolution (plain or transposed) before it. The node gets the norm's parameters after its own
// and the attribute batch_norm_eps; its weights are folded at every run.
Graph fold_batch_norm(const Graph& graph);

}  // namespace warploom
