// loss.h - training objectives: each adds the steps that compute its value and its gradient to a plan.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "csrc/graph/emitter.h"

namespace warploom {

struct LossSpec {
  std::string kind = "mse";
  int output = 0;  // index into the graph's outputs
  int target = 0;  // index into the targets
  float weight = 1.0f;
  bool sigmoid = false;                   // of the prediction, first: a loss of probabilities for an output of logits
  int mask = -1;                          // a further target of one channel that multiplies prediction and target; -1: none
  std::map<std::string, double> numbers;  // eps, smooth, window, sigma, c1, c2, ignore_index: what the kind has
  std::vector<float> class_weight;        // cross_entropy; empty: 1
};

// Throws GraphError for an unknown kind or number.
void check_loss(const LossSpec& spec);

// The shapes of the targets, by index; throws GraphError where two losses want different ones or nobody wants one.
std::vector<Shape> target_shapes(const Graph& graph, const std::vector<int>& outputs, const std::vector<LossSpec>& losses);

struct LossBuffers {
  Handle value, total;  // device f32[1]; f64[2], see MseLoss in ops.h
  Handle class_weight;  // device f32[C], or kNoBuffer
};
void emit_loss(Emitter& emit, const LossSpec& spec, int prediction_value, Handle target, Handle mask, const LossBuffers& buffers);

// Where the losses' numbers stand in the session's loss memory.
struct LossLayout {
  explicit LossLayout(const std::vector<LossSpec>& losses);
  static constexpr int64_t kTotal = 0;
  std::vector<int64_t> value, class_weight;  // bytes from the start, per loss
  int64_t bytes = 0;
};

}  // namespace warploom
