// weight_gradient.h - how v3 splits the weight gradient's sum over pixels: runs of tiles, one partial gradient a run.
#pragma once

#include "../common/portable.cuh"

namespace warploom::v3 {

constexpr int kSliceChannels = 8;  // output channels of a warp

struct WeightGradientPlan {
  int tile_h = 1, tile_w = 1;  // output pixels
  int tiles_h = 1, tiles_w = 1;
  int blocks_o = 1, blocks_r = 1;  // output channel blocks, blocks along [C_in / groups, KH, KW]
  int channels = 0;                // input channels a block of the general kernel stages; 0: it reads x from global memory
  int splits = 1;
  int64_t tiles_per_split = 1;
  int64_t tiles = 0, weights = 0;  // of all images; elements of dw
};

// Chooses the splits once the rest is set: enough blocks for a large GPU, but no more than 16 MiB of partial gradients.
void choose_splits(const Conv2dShape& s, WeightGradientPlan& plan);

bool is_3x3(const Conv2dShape& s);
WeightGradientPlan plan_3x3(const Conv2dShape& s);
WeightGradientPlan plan_general(const Conv2dShape& s);
// partial: [splits, groups * O, I, KH, KW]
void weight_gradient_3x3(const Conv2dShape& s, const WeightGradientPlan& plan, const float* dy, const float* x, float* partial,
                         const Context& context);
void weight_gradient_general(const Conv2dShape& s, const WeightGradientPlan& plan, const float* dy, const float* x,
                             float* partial, const Context& context);

}  // namespace warploom::v3
