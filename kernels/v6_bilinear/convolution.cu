// convolution.cu (v6): a convolution by a bilinear scheme, and its gradients, as a sequence of passes over chunks of tiles. Host code only.
//
// Chunks: V and M of a chunk are written by one pass and read by the next. 32 MiB of both stay in an H100's 50 MB of L2 beside what
// else passes through it; smaller chunks would leave multiprocessors idle in the products. A GPU with a small L2 gains nothing by any
// size that fills it, and the bound keeps the workspace small. A chunk is a run of rows of tiles, whatever image they are of.
//
// Gradients of a Winograd scheme: dx is itself a 3x3 convolution of stride 1, of dy with mirrored filters. The adjoint would save
// one transform of dy, but its patches overlap: adding them up reads every position of four tiles. After an upsample dx is no such
// convolution: there the adjoint is gathered, at 49 positions for 25, and dM serves dw and dx.
#include <algorithm>

#include "choice.h"
#include "convolution.h"
#include "entries.h"

namespace warploom::v6 {

constexpr int64_t kChunkBytes = int64_t(32) << 20;

struct Chunks {
  int TH, TW, total, rows;  // rows of tiles: of all images; of a chunk
  Chunks(int images, int64_t OH, int64_t OW, int side, int64_t tile_floats) {
    TH = static_cast<int>(ceil_div(OH, side)), TW = static_cast<int>(ceil_div(OW, side));
    total = images * TH;
    int64_t fit = std::clamp<int64_t>(kChunkBytes / (TW * tile_floats * 4), 1, total);
    if (fit > TH) fit = fit / TH * TH;  // whole images: no row of tiles is needed twice
    fit = ceil_div(total, ceil_div(total, fit));
    if (fit > TH) fit = ceil_div(fit, TH) * TH;
    rows = static_cast<int>(fit);
  }
  Tiles tiles(int first, int last) const {
    Tiles t;
    t.TH = TH, t.TW = TW, t.first_row = first, t.rows = last - first;
    t.by_TW = FastDivisor(TW), t.by_TH = FastDivisor(TH);
    return t;
  }
  // The row before q0 or after q1 - 1, where it is of the same image.
  int before(int q0) const { return q0 % TH ? q0 - 1 : q0; }
  int after(int q1) const { return q1 % TH ? q1 + 1 : q1; }
};

template <class S>
static int64_t convolve_by(const Context* context, Scheme scheme, FilterForm form, int images, const Map& x, int pad_top,
                           int pad_left, int C, int N, const float* w, const Result& y) {
  constexpr int PP = S::kProducts * S::kProducts;
  constexpr bool kBorrows = S::kBorrow >= 0;
  const int K = padded(form == FilterForm::forward ? C : N), O = padded(form == FilterForm::forward ? N : C);
  const Chunks chunks(images, y.H, y.W, S::kOut, int64_t(PP) * (K + O));
  const int64_t most = int64_t(chunks.rows + kBorrows) * chunks.TW;
  Workspace space(context);
  float* const U = space.take(int64_t(PP) * K * O);
  float* const V = space.take(PP * most * K);
  float* const M = space.take(PP * most * O);
  if (!context) return space.bytes();
  transform_filter(*context, scheme, form, C, N, w, U);
  for (int q0 = 0; q0 < chunks.total; q0 += chunks.rows) {
    const int q1 = std::min(chunks.total, q0 + chunks.rows), last = kBorrows ? chunks.after(q1) : q1;
    transform_input(*context, scheme, chunks.tiles(q0, last), x, pad_top, pad_left, V, most * K);
    multiply(*context, PP, (last - q0) * chunks.TW, K, O, V, most * K, U, M, most * O);
    transform_output(*context, scheme, chunks.tiles(q0, q1), M, most * O, y);
  }
  return space.bytes();
}

int64_t convolve(const Context* context, Scheme scheme, FilterForm form, int images, const Map& x, int pad_top, int pad_left,
                 int C, int N, const float* w, const Result& y) {
  return with_scheme(
      scheme, [&](auto s) { return convolve_by<decltype(s)>(context, scheme, form, images, x, pad_top, pad_left, C, N, w, y); });
}

// dw, and after an upsample dx from the same dM.
template <class S>
static int64_t differentiate_by(const Context* context, const Gradients& g, bool want_dx) {
  constexpr int PP = S::kProducts * S::kProducts;
  const Conv2dShape& s = g.s;
  const int C = padded(s.C_in), N = padded(s.C_out), XH = s.H / S::kUp, XW = s.W / S::kUp;
  const Chunks chunks(s.N, s.OH, s.OW, S::kOut, int64_t(PP) * (C + N));
  const int64_t most = int64_t(chunks.rows + (want_dx ? 2 : 0)) * chunks.TW;
  const int splits = g.want_dw ? weight_splits(PP, int64_t(chunks.rows) * chunks.TW, C, N) : 0;
  Workspace space(context);
  float* const V = space.take(PP * most * C);
  float* const dM = space.take(PP * most * N);
  float* const dU = space.take(int64_t(splits) * PP * C * N);
  float* const U = want_dx ? space.take(int64_t(PP) * C * N) : nullptr;
  if (!context) return space.bytes();
  const Map x{g.x, nullptr, XH, XW, s.C_in, 0.0f};
  if (want_dx) transform_filter(*context, g.scheme, FilterForm::transposed, s.C_in, s.C_out, g.w, U);
  for (int q0 = 0; q0 < chunks.total; q0 += chunks.rows) {
    const int q1 = std::min(chunks.total, q0 + chunks.rows);
    const int first = want_dx ? chunks.before(q0) : q0, last = want_dx ? chunks.after(q1) : q1;
    const int64_t skipped = int64_t(q0 - first) * chunks.TW;
    transform_gradient(*context, g.scheme, chunks.tiles(first, last), g.dy, dM, most * N);
    if (g.want_dw) {
      transform_input(*context, g.scheme, chunks.tiles(q0, q1), x, S::kUp == 2 ? 1 : s.pad_top, S::kUp == 2 ? 1 : s.pad_left, V,
                      most * C);
      multiply_transposed(*context, PP, (q1 - q0) * chunks.TW, C, N, splits, q0 > 0, V, most * C, dM + skipped * N, most * N, dU);
    }
    if (want_dx) {  // dV takes V's place
      multiply(*context, PP, (last - first) * chunks.TW, N, C, dM, most * N, U, V, most * C);
      collect_input(*context, g.scheme, chunks.tiles(q0, q1), V + skipped * C, most * C, XH, XW, s.C_in, g.dx);
    }
  }
  if (g.want_dw) collect_filter(*context, g.scheme, s.C_in, s.C_out, splits, dU, g.dw);
  return space.bytes();
}

int64_t differentiate(const Context* context, const Gradients& g) {
  return with_scheme(g.scheme, [&](auto t) {
    using S = decltype(t);
    if constexpr (S::kUp == 2) {
      return differentiate_by<S>(context, g, g.want_dx);
    } else {
      int64_t bytes = 0;
      if (g.want_dw) bytes = differentiate_by<S>(context, g, false);
      if (!g.want_dx) return bytes;
      Result dx;
      dx.H = g.s.H, dx.W = g.s.W, dx.C = g.s.C_in, dx.y = g.dx;
      return std::max(bytes, convolve(context, g.scheme, FilterForm::mirrored, g.s.N, g.dy, 2 - g.s.pad_top, 2 - g.s.pad_left,
                                      g.s.C_in, g.s.C_out, g.w, dx));
    }
  });
}

}  // namespace warploom::v6
