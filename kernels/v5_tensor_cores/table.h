// table.h - what v5 gives to others: its table of operations, the scale of a gradient as fp16, sums of runs.
#pragma once

#include "../ops.h"

namespace warploom::v5 {
const OpTable& table();

// Writes the scale of dy to workspace[0] (gradient_scale.cu): a power of two that brings its largest element near fp16's largest.
constexpr int kScaleRuns = 256;
constexpr int64_t kScaleBytes = 4 * (kScaleRuns + 64);  // [0]: the scale; from 64 on: each run's maximum
void find_gradient_scale(const Context& context, const float* dy, int64_t count, float* workspace);

// Partial sums of db beside those of dw; no channels: none.
struct BiasSums {
  int runs = 1, channels = 0;
  const float* partials = nullptr;  // [runs, channels]
  float* db = nullptr;
};
// dw[i] = the sum over runs of partials[run][i], in order; db the same.
void sum_runs(const Context& context, int runs, int64_t count, const float* partials, float* dw, const BiasSums& bias = {});
}  // namespace warploom::v5
