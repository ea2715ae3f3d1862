// conv.h - the parts every convolution algorithm of the host kernel set shares.
#pragma once

#include <string>
#include <vector>

#include "common.h"
#include "gemm.h"

namespace warploom::cpu {

// The arguments of all five convolution entries in one struct; what an entry lacks is null.
struct Conv {
  Conv2dShape s;
  Fusion f;
  const float *x = nullptr, *w = nullptr, *bias = nullptr, *dy = nullptr;
  const float* y = nullptr;  // [N, OH / pool, OW / pool, C_out] backward: the fused output
  float *out = nullptr, *dx = nullptr, *dw = nullptr, *db = nullptr;
  uint8_t* argmax = nullptr;  // [N, OH / pool, OW / pool, C_out] which pixel of the window was the maximum
  bool want_dx = false, want_dw = false, want_db = false;  // known when planning, before there are pointers

  int POH() const { return s.OH / f.pool; }
  int POW() const { return s.OW / f.pool; }
  int XH() const { return s.H / f.upsample; }
  int XW() const { return s.W / f.upsample; }
  int cg() const { return s.C_in / s.groups; }
  int ng() const { return s.C_out / s.groups; }
  bool plain_gradient() const { return f.pool == 1 && f.activation == Activation::none; }
};

// One way to compute a convolution. forward/backward carve their workspace from `ws`; with no memory behind it they only count.
struct Algorithm {
  const char* name;
  std::string (*why_not)(const Conv&);
  double (*cost)(const Conv&);  // rough time in multiply-adds of the GEMM, for the choice among those that take the shape
  void (*forward)(const Conv&, Carver& ws, bool run);
  void (*backward)(const Conv&, Carver& ws, bool run);
};
extern const Algorithm kIm2col, kDepthwise, kWinograd4, kWinograd2, kUpsample9, kUpsample25, kUpsample81, kStrided25, kStrided36,
    kColumns, kDirect, kRows, kPointwise;

// ---- Pieces ----

// A grid of output pixels that look at source pixels: output (i, j) and tap t look at (i * step_h + dh[t], j * step_w + dw[t]) of
// an image of H x W source pixels, each repeated `up` times in both directions; outside is zero. Rows of the grid are numbered by
// image, then by window of pool x pool pixels, then inside the window.
struct Gather {
  const float* source = nullptr;  // [images, H, W, pixel], the first wanted channel
  int H = 0, W = 0, up = 1;
  int64_t pixel = 0;  // floats from one source pixel to the next
  int channels = 0;
  int grid_h = 0, grid_w = 0, step_h = 1, step_w = 1, pool = 1;
  std::vector<int> dh, dw;
  int64_t taps() const { return static_cast<int64_t>(dh.size()); }
  int64_t depth() const { return taps() * channels; }
  int64_t rows_per_image() const { return int64_t(grid_h / pool) * (grid_w / pool) * pool * pool; }
};

// Rows row0..row0+rows-1 of the matrix [rows, taps * channels] into blocked form; `to` points at the first row, blocks are
// `block_stride` floats apart. Columns up to the next multiple of 16 are zero.
void gather_rows(const Gather& g, int64_t row0, int64_t rows, float* to, int64_t block_stride);

// bias, activation and max pool over `windows` windows of pool * pool rows of C (blocked), written to channels c0..c0+n-1 of the
// output from window0 on. argmax may be null.
void finish_rows(const Conv& c, const MutableView& C, int64_t window0, int64_t windows, int c0, int n);

// The gradient of the convolution's own output for images n0..n1: dy through the activation and, to the pixel that won, the pool.
void expand_gradient(const Conv& c, int64_t n0, int64_t n1, float* dz);

void bias_gradient(const Conv& c, Carver& ws, bool run);

// dst[i] = sum over p of parts[p * stride + i], in order.
void sum_parts(const float* parts, int64_t count, int64_t stride, float* dst, int64_t n);

}  // namespace warploom::cpu
