// conv_direct.cpp - few input channels, 3x3: straight from a padded copy of some image rows, without patches, pool fused.
//
// Forward: one register tile is 2 x 4 pixels by two vectors of outputs; bias, activation, max and argmax follow in registers, so
// that the full map never exists. Gradient of the weights: with a pool, only the pixel that won has a gradient, so the sum runs
// over windows: the 4 x 4 patch under a window is a 16-entry table per input channel, and every lane picks its own pixel from it
// with an in-register permute: a quarter of the multiplications. All 9 C sums of 16 outputs stay in registers.
#include "conv.h"

namespace warploom::cpu {
namespace {

constexpr int kPixels = 4;  // columns of a tile, of two rows
constexpr int kVectors = kWidth == 16 ? 2 : 1;
constexpr int kStep = kVectors * kWidth;
constexpr int64_t kSegments = 32;

// Rows first..first + rows - 1 of an image, columns -left.. on, with zeros outside: [rows][pitch] pixels of C floats.
void pad_rows(const Conv& c, int64_t n, int first, int rows, int64_t pitch, float* to) {
  const int C = c.s.C_in, W = c.s.W;
  for (int r = 0; r < rows; ++r, to += pitch * C) {
    const int h = first + r;
    std::fill(to, to + pitch * C, 0.0f);
    if (h >= 0 && h < c.s.H) std::copy_n(c.x + (n * c.s.H + h) * W * C, int64_t(W) * C, to + int64_t(c.s.pad_left) * C);
  }
}

template <int C, int kPool>
class Direct {
 public:
  static constexpr int K = 9 * C;

  Direct(const Conv& c, Carver& ws, bool backward) : c_(c), N_(c.s.C_out) {
    pitch_ = std::max<int64_t>(c.s.W + c.s.pad_left, round_up(c.s.OW, kPixels) + 2) + kPixels;
    if (!backward) {
      band_ = std::min<int>(static_cast<int>(round_up(c.s.OH, 2)), 16);
      packed_ = ws.take(packed_size(K, N_));
      each_ = round_up((band_ + 2) * pitch_ * C, 32);
      scratch_ = ws.take(thread_count() * each_);
      return;
    }
    // Backward: a band is `rows` rows of windows (pixels without a pool), their gradients in blocks of 16 channels.
    NB_ = ceil_div(N_, kBlock);
    const int POH = c.POH(), POW = c.POW();
    band_ = std::clamp(256 / std::max(POW, 1), 1, std::max(POH, 1));
    bands_ = ceil_div(POH, band_);
    const int64_t pixels = int64_t(band_) * POW;
    image_floats_ = round_up((band_ * kPool + 2) * pitch_ * C, 32);
    each_ = image_floats_ + NB_ * pixels * kBlock;
    if (kPool == 2) each_ += NB_ * pixels * kBlock / 4 + pixels * C * 16;
    each_ += NB_ * kBlock;
    each_ = round_up(each_, 32);
    scratch_ = ws.take(thread_count() * each_);
    segments_ = std::max<int64_t>(1, std::min<int64_t>(kSegments, c.s.N * bands_));
    if (c.want_dw) parts_ = ws.take(segments_ * K * NB_ * kBlock);
    if (c.want_db) db_parts_ = ws.take(segments_ * N_);
  }

  void forward() {
    const int64_t panels = ceil_div(N_, kPanel);
    parallel(panels, [&](int64_t panel, int) { pack_panel(c_.w, N_, 1, K, 0, K, N_, panel, packed_); });
    const int64_t bands = ceil_div(c_.s.OH, band_);
    parallel(c_.s.N * bands, [&](int64_t task, int worker) {
      const int64_t n = task / bands;
      const int first = static_cast<int>(task % bands) * band_, last = std::min(c_.s.OH, first + band_);
      float* image = scratch_ + worker * each_;
      pad_rows(c_, n, first - c_.s.pad_top, band_ + 2, pitch_, image);
      for (int64_t k = 0; k < N_; k += kStep) {
        const float* w = packed_ + k / kPanel * kPanel * K + k % kPanel;
        for (int oh = first; oh < last; oh += 2)
          for (int ow = 0; ow < c_.s.OW; ow += kPixels)
            tile(image + ((oh - first) * pitch_ + ow) * C, w, n, oh, ow, static_cast<int>(k));
      }
    });
  }

  void backward() {
    const int64_t all = c_.s.N * bands_;
    parallel(segments_, [&](int64_t segment, int worker) {
      float* part = c_.want_dw ? parts_ + segment * K * NB_ * kBlock : nullptr;
      float* db = c_.want_db ? db_parts_ + segment * N_ : nullptr;
      if (part) std::fill(part, part + K * NB_ * kBlock, 0.0f);
      if (db) std::fill(db, db + N_, 0.0f);
      for (int64_t task = all * segment / segments_; task < all * (segment + 1) / segments_; ++task)
        band(task / bands_, static_cast<int>(task % bands_) * band_, scratch_ + worker * each_, part, db);
    });
    if (c_.want_db) sum_parts(db_parts_, segments_, N_, c_.db, N_);
    if (c_.want_dw)
      parallel(K, [&](int64_t k, int) { sum_parts(parts_ + k * NB_ * kBlock, segments_, K * NB_ * kBlock, c_.dw + k * N_, N_); });
  }

 private:
  // 2 x kPixels pixels from (oh, ow) on, kStep outputs from k on. x points at the tile's first tap.
  __attribute__((noinline)) void tile(const float* x, const float* w, int64_t n, int oh, int ow, int k) {
    vf sum[2 * kPixels][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < 2 * kPixels; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[i][v] = vf{};
    const float* row0 = x;
    const float* row1 = x + pitch_ * C;
#pragma GCC unroll 1
    for (int kh = 0; kh < 3; ++kh, row0 += pitch_ * C, row1 += pitch_ * C)
#pragma GCC unroll 9
      for (int j = 0; j < 3 * C; ++j, w += kPanel) {
        vf wv[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) wv[v] = load(w + v * kWidth);
#pragma GCC unroll 8
        for (int i = 0; i < 2 * kPixels; ++i) {
          const float* row = i < kPixels ? row0 : row1;  // g++ 12 with -fsanitize=undefined takes (a ? b : c)[i] for another
          const vf xv = broadcast(row[i % kPixels * C + j]);
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) sum[i][v] += xv * wv[v];
        }
      }
    const int POH = c_.POH(), POW = c_.POW();
    const Activation kind = c_.f.activation;
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const int channel = k + v * kWidth, part = N_ - channel;
      if (part <= 0) break;
      const vf bias = c_.bias ? load_part(c_.bias + channel, part) : vf{};
      if constexpr (kPool == 1) {
#pragma GCC unroll 8
        for (int i = 0; i < 2 * kPixels; ++i) {
          const int h = oh + i / kPixels, u = ow + i % kPixels;
          if (h < POH && u < POW)
            store_part(c_.out + ((n * POH + h) * POW + u) * N_ + channel, activate(sum[i][v] + bias, kind, c_.f.negative_slope),
                       part);
        }
      } else {
#pragma GCC unroll 2
        for (int q = 0; q < kPixels / 2; ++q) {
          if (oh / 2 >= POH || ow / 2 + q >= POW) continue;
          const vf window[4] = {sum[2 * q][v], sum[2 * q + 1][v], sum[kPixels + 2 * q][v], sum[kPixels + 2 * q + 1][v]};
          vf best = window[0];
          vi where{};
#pragma GCC unroll 3
          for (int i = 1; i < 4; ++i) take_larger(window[i], i, best, where);
          const int64_t at = ((n * POH + oh / 2) * POW + ow / 2 + q) * N_ + channel;
          store_part(c_.out + at, activate(best + bias, kind, c_.f.negative_slope), part);
          if (c_.argmax) store_bytes(c_.argmax + at, where, part);
        }
      }
    }
  }

  // The gradients of windows in rows first.. of image n: into blocks, then every block of 16 channels against the image.
  void band(int64_t n, int first, float* scratch, float* part, float* db) {
    const int POH = c_.POH(), POW = c_.POW(), rows = std::min(band_, POH - first);
    const int64_t pixels = int64_t(rows) * POW;
    float* image = scratch;
    float* dz = image + image_floats_;                                       // [NB][pixels][16]
    auto* pick = reinterpret_cast<uint8_t*>(dz + NB_ * pixels * kBlock);     // [NB][pixels][16]
    float* tables = reinterpret_cast<float*>(pick + NB_ * pixels * kBlock);  // [pixels][C][4][4]
    float* sums = scratch + each_ - NB_ * kBlock;                            // of this band: short sums round less
    std::fill(sums, sums + NB_ * kBlock, 0.0f);
    const Activation kind = c_.f.activation;
    for (int64_t i = 0; i < pixels; ++i) {
      const int64_t at = ((n * POH + first) * POW + i) * N_;
      for (int k = 0; k < N_; k += kWidth) {
        const int size = std::min(kWidth, N_ - k);
        vf d = load_part(c_.dy + at + k, size);
        if (kind != Activation::none) d = activate_backward(d, load_part(c_.y + at + k, size), kind, c_.f.negative_slope);
        store(sums + k, load(sums + k) + d);
        const int64_t to = (k / kBlock * pixels + i) * kBlock + k % kBlock;
        store(dz + to, d);
        if (kPool == 2 && part) {
          const vi a = load_bytes(c_.argmax + at + k, size);
          store_bytes(pick + to, (a >> 1) * 4 + (a & 1), kWidth);  // the place of the window's first tap in the table
        }
      }
    }
    if (db)
      for (int k = 0; k < N_; ++k) db[k] += sums[k];
    if (!part) return;
    pad_rows(c_, n, first * kPool - c_.s.pad_top, rows * kPool + 2, pitch_, image);
    if (kPool == 2)
      for (int64_t i = 0; i < pixels; ++i)
        for (int ci = 0; ci < C; ++ci)
          for (int t = 0; t < 16; ++t)
            tables[(i * C + ci) * 16 + t] = image[((i / POW * 2 + t / 4) * pitch_ + i % POW * 2 + t % 4) * C + ci];
    for (int64_t b = 0; b < NB_; ++b) {
      if constexpr (kPool == 2)
        sum_windows(dz + b * pixels * kBlock, pick + b * pixels * kBlock, tables, pixels, part + b * kBlock);
      else
        sum_pixels(dz + b * pixels * kBlock, image, rows, part + b * kBlock);
    }
  }

  __attribute__((noinline)) void sum_windows(const float* dz, const uint8_t* pick, const float* tables, int64_t pixels,
                                             float* part) {
    if constexpr (kWidth == 16) {
      vf sum[K];
#pragma GCC unroll 27
      for (int k = 0; k < K; ++k) sum[k] = vf{};
#pragma GCC unroll 1
      for (int64_t i = 0; i < pixels; ++i) {
        const vf d = load(dz + i * kBlock);
        const vi at = load_bytes(pick + i * kBlock, kWidth);
#pragma GCC unroll 9
        for (int t = 0; t < 9; ++t) {
          const vi lane = at + (t / 3 * 4 + t % 3);
#pragma GCC unroll 3
          for (int ci = 0; ci < C; ++ci) sum[t * C + ci] += d * permute(load(tables + (i * C + ci) * 16), lane);
        }
      }
      const int64_t stride = NB_ * kBlock;
#pragma GCC unroll 27
      for (int k = 0; k < K; ++k) store(part + k * stride, load(part + k * stride) + sum[k]);
    } else {
      // Without a permute of sixteen lanes: one pixel of the window after another, the others' gradients zero.
      const int64_t stride = NB_ * kBlock;
      for (int v = 0; v < kBlock; v += kWidth)
        for (int t = 0; t < 9; ++t) {
          vf sum[C] = {};
          for (int64_t i = 0; i < pixels; ++i) {
            const vf d = load(dz + i * kBlock + v);
            const vi at = load_bytes(pick + i * kBlock + v, kWidth);
#pragma GCC unroll 3
            for (int ci = 0; ci < C; ++ci) {
              const float* x = tables + (i * C + ci) * 16 + t / 3 * 4 + t % 3;
              const vf top = select(at == 0, broadcast(x[0]), broadcast(x[1])),
                       bottom = select(at == 4, broadcast(x[4]), broadcast(x[5]));
              sum[ci] += d * select(at < 4, top, bottom);
            }
          }
          for (int ci = 0; ci < C; ++ci) {
            float* to = part + (t * C + ci) * stride + v;
            store(to, load(to) + sum[ci]);
          }
        }
    }
  }

  __attribute__((noinline)) void sum_pixels(const float* dz, const float* image, int rows, float* part) {
    const int64_t stride = NB_ * kBlock;
    constexpr int kRows = kWidth == 16 ? 3 : 1;  // of taps whose sums fit into the registers together
    for (int v = 0; v < kBlock; v += kWidth)
      for (int kh = 0; kh < 3; kh += kRows) {
        vf sum[kRows * 3 * C];
#pragma GCC unroll 27
        for (int k = 0; k < kRows * 3 * C; ++k) sum[k] = vf{};
        for (int r = 0; r < rows; ++r) {
          const float* d = dz + int64_t(r) * c_.s.OW * kBlock + v;
          const float* x = image + (r + kh) * pitch_ * C;
#pragma GCC unroll 1
          for (int ow = 0; ow < c_.s.OW; ++ow, d += kBlock, x += C) {
            const vf dv = load(d);
#pragma GCC unroll 27
            for (int k = 0; k < kRows * 3 * C; ++k) sum[k] += dv * broadcast(x[k / (3 * C) * pitch_ * C + k % (3 * C)]);
          }
        }
#pragma GCC unroll 27
        for (int k = 0; k < kRows * 3 * C; ++k) {
          float* to = part + (kh * 3 * C + k) * stride + v;
          store(to, load(to) + sum[k]);
        }
      }
  }

  const Conv& c_;
  int N_, band_ = 0;
  int64_t pitch_ = 0, each_ = 0, NB_ = 0, bands_ = 0, image_floats_ = 0, segments_ = 0;
  float *packed_ = nullptr, *scratch_ = nullptr, *parts_ = nullptr, *db_parts_ = nullptr;
};

// Calls f with the class for the number of channels and the pool.
template <class F>
void with_class(const Conv& c, Carver& ws, bool backward, F&& f) {
  auto go = [&](auto d) { f(d); };
  const bool pool = c.f.pool == 2;
  switch (c.s.C_in) {
    case 1:
      return pool ? go(Direct<1, 2>(c, ws, backward)) : go(Direct<1, 1>(c, ws, backward));
    case 2:
      return pool ? go(Direct<2, 2>(c, ws, backward)) : go(Direct<2, 1>(c, ws, backward));
    default:
      return pool ? go(Direct<3, 2>(c, ws, backward)) : go(Direct<3, 1>(c, ws, backward));
  }
}

void forward(const Conv& c, Carver& ws, bool run) {
  with_class(c, ws, false, [&](auto& d) {
    if (run) d.forward();
  });
}
void backward(const Conv& c, Carver& ws, bool run) {
  if (c.want_dw || c.want_db)
    with_class(c, ws, true, [&](auto& d) {
      if (run) d.backward();
    });
  if (!c.want_dx) return;
  Conv input = c;  // rarely wanted of a first layer
  input.want_dw = input.want_db = false;
  kIm2col.backward(input, ws, run);
}

std::string why_not(const Conv& c) {
  const auto& s = c.s;
  if (s.C_in > 3) return "the direct kernel is for at most 3 input channels";
  if (s.groups != 1) return "the direct kernel is for one group";
  if (s.KH != 3 || s.KW != 3 || s.stride_h != 1 || s.stride_w != 1) return "the direct kernel is for 3x3 kernels with stride 1";
  if (c.f.upsample != 1) return "the direct kernel folds no upsample";
  if (c.f.pool > 2) return "the direct kernel folds a max pool of 2 only";
  return "";
}
double cost(const Conv& c) {
  return double(c.s.N) * c.s.OH * c.s.OW * 9 * c.s.C_in * static_cast<double>(round_up(c.s.C_out, kStep));
}

}  // namespace

const Algorithm kDirect = {"direct", why_not, cost, forward, backward};

}  // namespace warploom::cpu
