// few_channels.h - inside v5: convolutions with at most 4 channels on one side (an image's input, an autoencoder's last layer), whose sum
// over taps and those channels is a step or two of k. Their kernels copy the rows that a box of pixels needs into shared memory once and
// gather the sums' operands there (few_channels.cuh). Host code only, but for the struct.
#pragma once

#include <algorithm>

#include "../common/epilogue.cuh"
#include "../common/fast_divisor.cuh"
#include "choice.h"

namespace warploom::v5 {

// The map of few channels, the windows that pixels see of it, and how a block's share of them lies in shared memory.
struct FewChannels {
  int src_H = 0, src_W = 0, channels = 0;  // of the map
  int taps_h = 0, taps_w = 0, step = 1;    // pixel (i, j)'s window begins at (step * i + first_h, step * j + first_w)
  int first_h = 0, first_w = 0;            // of a gradient: further up and left by the taps
  bool mirrored = false;                   // tap 0 is the window's last row and column
  int copies = 1;                          // 2: each element of a window is a sum of 2 x 2, an upsample's copies
  bool pool = false;                       // rows and cols below count 2 x 2 pixels, numbered one after another
  int images = 0, rows = 0, cols = 0;      // all pixels
  int sum = 0, others = 0;                 // taps * channels; channels on the other side
  int box_rows = 0, box_cols = 0, boxes_h = 0, boxes_w = 0;  // a block's pixels; boxes of an image
  int64_t boxes = 0;                                         // of all images

  // A row in shared memory is a plane per channel and phase of the columns modulo the step, so that neighbouring pixels read
  // neighbouring words whatever the step.
  int staged_rows = 0, staged_cols = 0, phase_rows = 0;
  int plane = 0, row_pitch = 0;  // in floats
  int staged_floats = 0;         // of all rows, a multiple of 4
  int offsets = 0;               // of a window's elements, and of whole steps
  int margin = 0;                // columns staged before a window, so that phases are those of the map's own columns
  int request_cols = 0;          // columns that a warp copies at a time: whole sectors of 32 bytes
  bool vector_w = false, vector_others = false, pairs = false;
  int out_bytes = 4, others_bytes = 4;                        // of an element (half_map.cuh); the map itself is float32
  FastDivisor by_boxes, by_boxes_w, by_box_col, by_channels;  // boxes of an image, boxes_w, box_cols, channels
};

constexpr int kFewChannels = 4, kFewProducts = 64, kBoxPixels = 128;
constexpr int kFewestPixels = 64;           // of an image: smaller ones would leave a box half empty
constexpr int64_t kFewChannelBlocks = 264;  // enough for a large GPU; a constant, so that all devices choose alike

// Of a block's shared memory: what every GPU with tensor cores for the precision gives.
inline int shared_limit(Precision p) { return p == Precision::tf32 ? 96 << 10 : 64 << 10; }

// Chooses the box and the layout; false where the kernels do not fit.
inline bool lay_out(FewChannels& g) {
  g.sum = g.taps_h * g.taps_w * g.channels;
  const int per_pixel = g.pool ? 4 : 1, limit = kBoxPixels / per_pixel;
  if (g.channels > kFewChannels || g.sum > kFewProducts || g.step > 2 || int64_t(g.rows) * g.cols * per_pixel < kFewestPixels)
    return false;
  int64_t best = 0;
  for (int parts = (g.cols + limit - 1) / limit; parts <= g.cols && parts < (g.cols + limit - 1) / limit + 8; ++parts) {
    const int wide = (g.cols + parts - 1) / parts, high = std::min(limit / wide, g.rows);
    const int64_t boxes = int64_t((g.rows + high - 1) / high) * ((g.cols + wide - 1) / wide);
    if (best && boxes >= best) continue;
    best = boxes;
    g.box_rows = high, g.box_cols = wide;
  }
  g.boxes_h = (g.rows + g.box_rows - 1) / g.box_rows, g.boxes_w = (g.cols + g.box_cols - 1) / g.box_cols;
  g.boxes = int64_t(g.boxes_h) * g.boxes_w * g.images;
  if (g.boxes > (int64_t(1) << 30) / (g.others / 16 + 1)) return false;  // blocks are numbered in 32 bits

  const int pixels_h = g.box_rows * (g.pool ? 2 : 1), pixels_w = g.box_cols * (g.pool ? 2 : 1);
  g.margin = (g.first_w % g.step + g.step) % g.step;
  g.staged_rows = g.step * (pixels_h - 1) + g.taps_h + g.copies - 1;
  g.staged_cols = g.step * (pixels_w - 1) + g.taps_w + g.copies - 1 + g.margin;
  g.phase_rows = (g.staged_rows + g.step - 1) / g.step;
  const int phase_cols = (g.staged_cols + g.step - 1) / g.step, planes = g.channels * g.step;
  g.request_cols = g.channels == 1 ? 32 : g.channels == 2 ? 16 : 8;
  // A request fills `run` words of each plane: an odd multiple of a power of two apart, no two fall into one bank.
  const int run = std::max(g.request_cols / g.step, 1);
  g.plane = planes == 1 ? phase_cols : run * ((phase_cols + run - 1) / run | 1);
  g.row_pitch = planes * g.plane;
  // The lanes of a warp that stand in the next row of pixels read on where those of this one end.
  const int lanes = g.pool ? std::min(2 * g.box_cols, 16) : g.box_cols;
  if (lanes % 32) g.row_pitch += ((lanes - g.row_pitch) % 32 + 32) % 32;
  g.staged_floats = (g.phase_rows * g.step * g.row_pitch + 3) / 4 * 4;
  g.offsets = (g.sum + 31) / 32 * 32 * g.copies * g.copies;
  g.by_boxes = FastDivisor(g.boxes_h * g.boxes_w), g.by_boxes_w = FastDivisor(g.boxes_w), g.by_box_col = FastDivisor(g.box_cols);
  g.by_channels = FastDivisor(g.channels);
  return true;
}

// Forward and the gradient of the weights with few input channels: windows of x.
inline bool windows_of_x(const Conv2dShape& s, const Fusion& f, FewChannels& g) {
  if (f.x_type != DType::f32) return false;
  if (s.groups != 1 || s.C_in > kFewChannels || f.upsample != 1 || s.stride_h != s.stride_w) return false;
  g = FewChannels();
  g.src_H = s.H, g.src_W = s.W, g.channels = s.C_in;
  g.taps_h = s.KH, g.taps_w = s.KW, g.step = s.stride_h, g.first_h = -s.pad_top, g.first_w = -s.pad_left;
  g.pool = f.pool == 2;
  g.images = s.N, g.rows = s.OH / f.pool, g.cols = s.OW / f.pool, g.others = s.C_out;
  return lay_out(g);
}

// The gradients with few output channels: windows of dy, mirrored, for each pixel of x, which an upsample shows 2 x 2 times.
inline bool windows_of_dy(const Conv2dShape& s, const Fusion& f, FewChannels& g) {
  if (gradient_type(f.y_type) != DType::f32) return false;
  if (s.groups != 1 || s.C_out > kFewChannels || f.pool != 1 || s.stride_h != 1 || s.stride_w != 1) return false;
  g = FewChannels();
  g.src_H = s.OH, g.src_W = s.OW, g.channels = s.C_out;
  g.taps_h = s.KH, g.taps_w = s.KW, g.step = g.copies = f.upsample;
  g.first_h = s.pad_top - (s.KH - 1), g.first_w = s.pad_left - (s.KW - 1);
  g.mirrored = true;
  g.images = s.N, g.rows = s.H / f.upsample, g.cols = s.W / f.upsample, g.others = s.C_in;
  return lay_out(g);
}

// out [pixel, others] = windows x w (few_channels_product.cu): forward of windows of x, the gradient of the input of windows of
// dy, which is scaled by *scale. codes: of a pool, written, or null.
bool few_channels_product_fits(const FewChannels& g, Precision p);
void few_channels_product(const Context& context, FewChannels g, Precision p, const float* source, const float* w,
                          const float* scale, const Epilogue& epilogue, void* out, unsigned char* codes);

// dw = windows^T x others (few_channels_weight.cu): with windows of x the others are dy, unpooled by its codes; with windows of dy they
// are x. scale: of whichever is the gradient. sums: memory that the rest reads; dw and db are written where it has none.
bool few_channels_weight_fits(const FewChannels& g, Precision p);
Rest few_channels_weight_rest(const FewChannels& g, const Out& dw, const Out& db, bool with_db);
void few_channels_weight(const Context& context, FewChannels g, Precision p, const float* source, const void* others,
                         const float* scale, const unsigned char* codes, float negative_slope, float* sums, float* dw, float* db,
                         bool with_db);

// Whether the kernels above take a call, and the problem they solve.
inline bool takes_few_channels(const Conv2dForward& a, FewChannels& g) {
  return on_tensor_cores(a) && windows_of_x(a.s, a.fusion, g) && few_channels_product_fits(g, a.fusion.precision);
}
inline bool takes_few_channels(const Conv2dBackwardInput& a, FewChannels& g) {
  return on_tensor_cores(a) && windows_of_dy(a.s, a.fusion, g) && few_channels_product_fits(g, a.fusion.precision);
}
inline bool takes_few_channels(const Conv2dBackwardWeight& a, FewChannels& g) {
  return on_tensor_cores(a) && (windows_of_x(a.s, a.fusion, g) || windows_of_dy(a.s, a.fusion, g)) &&
         few_channels_weight_fits(g, a.fusion.precision);
}
template <class Args>
std::string few_channels_refusal(const Args& a) {
  FewChannels g;
  return takes_few_channels(a, g)
             ? ""
             : "its kernels gather windows of at most 4 channels, float32, and of 64 products, from shared memory";
}

}  // namespace warploom::v5
