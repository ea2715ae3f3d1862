// preconditions.h - what the shared operations ask of their shapes, for the kernels and for the host kernel set: "" or one sentence.
#pragma once

#include <string>

#include "kernels/common/preconditions.h"
#include "kernels/ops.h"

namespace warploom {

// Maps [outer, C, inner]: 32-bit places inside an image, and a block of threads beyond its end.
inline std::string map_error(int64_t outer, int64_t C, int64_t inner) {
  constexpr int64_t limit = kImageLimit - 4096;
  if (outer < 0 || C < 1 || inner < 1) return "maps need at least one channel and one inner position";
  if (elements(C, inner) >= limit)
    return "one image has " + std::to_string(C) + " channels of " + std::to_string(inner) +
           " elements; the kernels index fewer than " + std::to_string(limit) + " elements";
  return "";
}

template <class Args>
std::string plain_map_error(const Args& a) {
  return map_error(a.outer, a.C, a.inner);
}

// Maps with an activation after them.
template <class Args>
std::string active_map_error(const Args& a) {
  if (!in_epilogues(a.activation))
    return "relu, leaky_relu and sigmoid are applied on the way; others are operations of their own";
  return map_error(a.outer, a.C, a.inner);
}

inline std::string batch_norm_forward_error(const BatchNormForward& a) {
  if (a.training && a.C >= 1 && a.inner >= 1 && a.outer >= 0 && elements(a.outer, a.inner) < 2)
    return "batch norm in training needs more than one value per channel; here each of the " + std::to_string(a.C) +
           " channels has " + std::to_string(a.outer * a.inner) + ": use a larger batch, larger maps or inference mode";
  return active_map_error(a);
}

inline std::string batch_norm_moments_error(const BatchNormMoments& a) {
  if (a.C >= 1 && a.inner >= 1 && a.outer == 0) return "moments are those of at least one value per channel; here there is none";
  return plain_map_error(a);
}

template <class Args>
std::string rms_norm_error(const Args& a) {
  if (a.rows < 0 || a.cols < 1) return "RMS norm needs rows of at least one element";
  return image_error("the rows", a.cols);
}

template <class Args>
std::string concat_error(const Args& a) {
  if (a.count < 1 || a.count > kMaxConcat)
    return "a concatenation takes 1 to " + std::to_string(kMaxConcat) + " tensors, not " + std::to_string(a.count) +
           "; concatenate in several steps";
  if (a.rows < 0) return "a concatenation cannot have a negative number of rows";
  for (int k = 0; k < a.count; ++k)
    if (a.cols[k] < 0) return "tensor " + std::to_string(k) + " of a concatenation has a negative number of columns";
  return map_error(a.rows, 1, a.total() > 0 ? a.total() : 1);
}

template <class Args>
std::string multiply_error(const Args& a) {
  if (a.b_channels != 1 && a.b_channels != a.C)
    return "the second factor has " + std::to_string(a.b_channels) + " channels; there must be 1 or the " + std::to_string(a.C) +
           " channels of the first";
  return map_error(a.outer, a.C, a.inner);
}

inline std::string depth_to_space_error(const DepthToSpace& a) {
  if (a.N < 0 || a.C < 1 || a.H < 1 || a.W < 1 || a.block < 1)
    return "depth to space needs positive channels, height, width and block size";
  return image_error("the maps", elements(a.C, a.H, a.W, a.block, a.block));
}

inline std::string upsample_weights_error(const UpsampleWeights& a) {
  if (a.C_out < 1 || a.C_in < 1) return "weights need at least one output and one input channel";
  return image_error("the weights", elements(16, a.C_out, a.C_in));
}

}  // namespace warploom
