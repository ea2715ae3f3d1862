// unfold.h - im2col and its adjoint as one pair of operations, for either side of a convolution.
//
// A map is a tensor [N, C, H, W]; its column matrix has a row per (channel, kernel row, kernel column) and a column per pixel of
// the *other* side of the convolution. For pixel (h, w) of the other side, row (c, kh, kw) holds map[c, a(h, kh), a(w, kw)],
// where
//   reading the input for an output pixel:   a = h * stride - pad + kh
//   reading the output for an input pixel:   a = h + pad - kh        (stride 1)
// and zero outside the map. Folding is the adjoint: each map element gathers the matrix elements that hold it.
#pragma once

#include <algorithm>

#include "../common/epilogue.cuh"
#include "../common/portable.cuh"

namespace warploom::v4 {

struct Unfold {
  int C = 0, H = 0, W = 0;  // the map that is unfolded
  int OH = 0, OW = 0;       // the other side: columns are its pixels, image after image
  int KH = 0, KW = 0;
  int step_h = 1, step_w = 1;  // a = h * step + base + sign * kh
  int base_h = 0, base_w = 0;
  int sign = 1;
  int64_t rows() const { return int64_t(C) * KH * KW; }
  int64_t pixels() const { return int64_t(OH) * OW; }
};

inline Unfold unfold_input(const Conv2dShape& s) {
  return {s.C_in, s.H, s.W, s.OH, s.OW, s.KH, s.KW, s.stride_h, s.stride_w, -s.pad_top, -s.pad_left, 1};
}
inline Unfold unfold_output(const Conv2dShape& s) {
  return {s.C_out, s.OH, s.OW, s.H, s.W, s.KH, s.KW, 1, 1, s.pad_top, s.pad_left, -1};
}

// Columns are counted over the images of the batch: column j is pixel j % pixels of image j / pixels. A window of them is cut out
// of the whole; its matrix is [rows, stride], and columns past `count` hold zeros.
struct Window {
  int64_t first = 0;
  int count = 0;
  int64_t stride() const { return (int64_t(count) + 3) / 4 * 4; }
};

void unfold(const Unfold& u, const float* map, const Window& window, float* columns, const Context& context);

// Rows [row0, row1) of the maps of images [image, image + images), from a window that holds all they need.
struct FoldRegion {
  int image = 0, images = 0, row0 = 0, row1 = 0;
};
void fold(const Unfold& u, const float* columns, const Window& window, const FoldRegion& region, float* map,
          const Epilogue& epilogue, const Context& context);

// Work in pieces that keep the column matrix small: 24 MiB stay in the L2 cache of a large GPU and leave memory to the network.
constexpr int64_t kColumnBytes = int64_t(24) << 20;
constexpr int64_t kLeastColumns = 256;  // where even one image is too large, tiles still want this many columns

// Columns a matrix of `rows` rows may have at a time.
inline int64_t window_columns(int64_t rows, int64_t total) {
  const int64_t fits = std::max(kColumnBytes / (4 * rows) / 256 * 256, kLeastColumns);
  return std::min({fits, total, int64_t(1) << 30});
}

// Pieces for fold(): whole images while they fit, else bands of rows of one image.
struct FoldPieces {
  int images = 1;
  int band = 0;         // map rows per piece
  int64_t columns = 0;  // the widest window of any piece
};
FoldPieces fold_pieces(const Unfold& u, int N);
// Rows of the other side that map rows [row0, row1) need: first and one past the last.
void fold_source_rows(const Unfold& u, int row0, int row1, int* first, int* end);

template <class Body>
void for_each_piece(const Unfold& u, int N, Body body) {
  const FoldPieces pieces = fold_pieces(u, N);
  for (int image = 0; image < N; image += pieces.images) {
    for (int row = 0; row < u.H; row += pieces.band) {
      const FoldRegion region{image, std::min(pieces.images, N - image), row, std::min(row + pieces.band, u.H)};
      int first = 0, end = u.OH;
      if (pieces.band < u.H) fold_source_rows(u, region.row0, region.row1, &first, &end);
      body(region, Window{image * u.pixels() + int64_t(first) * u.OW,
                          static_cast<int>((region.images - 1) * u.pixels() + int64_t(end - first) * u.OW)});
    }
  }
}

// to[(o, t), i] = w[o, i, t] per group: weights [groups, O, I, taps] -> [groups, O * taps, I].
void turn_weights(int groups, int O, int I, int taps, const float* w, float* to, const Context& context);
// dw[o, i, t] = sum over splits of partial[split][(o, t), i] if turned, else partial[split][o, (i, t)].
void sum_weight_gradient(int groups, int O, int I, int taps, int splits, bool turned, const float* partial, float* dw,
                         const Context& context);

}  // namespace warploom::v4
