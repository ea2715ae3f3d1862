// table.h - what v5 gives to others: its table of operations, the scale of a gradient as fp16, the rest of a call.
#pragma once

#include "../ops.h"

namespace warploom::v5 {
const OpTable& table();

// Writes the scale of dy to workspace[0] (gradient_scale.cu): a power of two that brings its largest element near fp16's largest.
constexpr int kScaleRuns = 256;
constexpr int64_t kScaleBytes = 4 * (kScaleRuns + 64);  // [0]: the scale; from 64 on: each run's maximum
void find_gradient_scale(const Context& context, const float* dy, int64_t count, float* workspace);

// What a call leaves to do, with the memory that it filled.
void do_rest(const Rest& rest, const void* memory, const Context& context);
}  // namespace warploom::v5
