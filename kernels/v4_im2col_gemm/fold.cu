// Maths    map[c, a] = sum over (kh, kw) of columns[(c, kh, kw), pixel] for the pixels with pixel * step + base + sign * k == a.
// Layout   columns [C * KH * KW, stride]; map [N, C, H, W]; the epilogue adds a bias per channel and applies the activation.
// Owns     A thread owns one map element and gathers: no atomics, the order of the sum is that of the taps.
// Bound    memory: neighbouring threads read neighbouring columns, every element of the matrix is read once.
// Needs    the window holds every column the region's rows refer to (fold_source_rows).
#include "../common/fast_divisor.cuh"
#include "unfold.h"

namespace warploom::v4 {

// columns: [C * KH * KW, stride]; map: [N, C, H, W]
template <bool UnitStep>
__global__ void fold_kernel(Unfold u, const float* __restrict__ columns, int64_t first, int64_t stride, FoldRegion region,
                            FastDivisor width, FastDivisor area, Epilogue epilogue, float* __restrict__ map) {
  const int band = (region.row1 - region.row0) * u.W;
  const int64_t item = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (item >= int64_t(band) * region.images) return;
  const int image = area.quotient(static_cast<int>(item)), rest = static_cast<int>(item) - image * band;
  const int row = width.quotient(rest), w = rest - row * u.W, h = row + region.row0;
  const int64_t n = region.image + image;
  const int64_t shift = n * u.OH * u.OW - first;  // of this image's columns in the window
  for (int c = blockIdx.y; c < u.C; c += gridDim.y) {
    const float* from = columns + int64_t(c) * u.KH * u.KW * stride + shift;
    float sum = 0.0f;
    for (int kh = 0; kh < u.KH; ++kh) {
      // a = oh * step + base + sign * kh, solved for oh
      const int over = h - u.base_h - u.sign * kh, oh = UnitStep ? over : over / u.step_h;
      const bool inside = over >= 0 && oh < u.OH && (UnitStep || oh * u.step_h == over);
      if (!inside) {
        from += u.KW * stride;
        continue;
      }
      for (int kw = 0; kw < u.KW; ++kw, from += stride) {
        const int across = w - u.base_w - u.sign * kw, ow = UnitStep ? across : across / u.step_w;
        if (across >= 0 && ow < u.OW && (UnitStep || ow * u.step_w == across)) sum += from[int64_t(oh) * u.OW + ow];
      }
    }
    if (epilogue.bias) sum += epilogue.bias[c];
    map[((n * u.C + c) * u.H + h) * u.W + w] = epilogue(sum);
  }
}

void fold_source_rows(const Unfold& u, int row0, int row1, int* first, int* end) {
  // oh * step + base + sign * kh == h for some kh and some h of the band
  const int64_t reach = u.KH - 1;
  const int64_t low = int64_t(row0) - u.base_h - (u.sign > 0 ? reach : 0);
  const int64_t high = int64_t(row1) - 1 - u.base_h + (u.sign > 0 ? 0 : reach);
  *first = static_cast<int>(std::min<int64_t>(low <= 0 ? 0 : (low + u.step_h - 1) / u.step_h, u.OH));
  *end = static_cast<int>(high < 0 ? 0 : std::min<int64_t>(high / u.step_h + 1, u.OH));
  *end = std::max(*end, *first);
}

FoldPieces fold_pieces(const Unfold& u, int N) {
  const int64_t fits = window_columns(u.rows(), int64_t(1) << 30), pixels = u.pixels();
  // Elements of one launch are counted in 31 bits.
  const int64_t most = std::max<int64_t>(1, (int64_t(1) << 30) / (int64_t(u.H) * u.W));
  if (pixels <= fits) {
    const int images = static_cast<int>(std::min({int64_t(N), fits / pixels, most}));
    return {images, u.H, images * pixels};
  }
  FoldPieces pieces{1, u.H, 0};
  auto widest = [&](int band) {
    int64_t columns = 0;
    for (int row = 0; row < u.H; row += band) {
      int first, end;
      fold_source_rows(u, row, std::min(row + band, u.H), &first, &end);
      columns = std::max(columns, int64_t(end - first) * u.OW);
    }
    return columns;
  };
  while (pieces.band > 1 && widest(pieces.band) > fits) pieces.band = (pieces.band + 1) / 2;
  pieces.columns = widest(pieces.band);
  return pieces;
}

void fold(const Unfold& u, const float* columns, const Window& window, const FoldRegion& region, float* map,
          const Epilogue& epilogue, const Context& context) {
  const int band = (region.row1 - region.row0) * u.W, threads = 256;
  const dim3 grid(blocks_for(int64_t(band) * region.images, threads), std::min(u.C, 65535));
  const bool unit = u.step_h == 1 && u.step_w == 1;
  launch(context, "fold", unit ? fold_kernel<true> : fold_kernel<false>, grid, dim3(threads), 0, u, columns, window.first,
         window.stride(), region, FastDivisor(u.W), FastDivisor(std::max(band, 1)), epilogue, map);
}

}  // namespace warploom::v4
