// conv_bilinear.cpp - 3x3 convolutions of stride one, and up to 6x6 of stride two, by the schemes of schemes.h.
//
// Forward: every tile's patch is transformed (V), one matrix product per position multiplies with the transformed weights (M = V
// U), and the outputs of a tile are put together, biased, activated and pooled in registers. Backward: the gradient goes through
// the adjoint of the last step (dM), then dV = dM U^T, whose adjoint transform adds up to dx, and dU = V^T dM, from which dw
// follows. V, M, dM stand as [position][channel block][tile][16]. Rows of tiles pass in chunks, whatever image they are of, so
// that V and M stay in the last-level cache; V is computed again for the gradient, which costs less than keeping it. With few
// channels the products are small beside V and M: then a worker takes its chunk through all steps, in its own cache. Nothing
// depends on the number of threads: tasks own tiles, or a position's whole product, or a part of the images.
#include <type_traits>

#include "conv.h"
#include "schemes.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kCachedBytes = 12 << 20;  // weights that the last cache keeps
constexpr int64_t kChunkBytes = 6 << 20;    // of V and M
// Where a worker goes through all steps alone: of V and M, and of the weights (backward also of their gradient) beside them.
constexpr int64_t kOwnChunkBytes = 384 << 10, kOwnWeightBytes = 640 << 10, kOwnGradientBytes = 256 << 10;
constexpr int64_t kOwnParts = 16;  // of the images, each with a gradient of its own

template <class S>
class Bilinear {
 public:
  static constexpr int P = S::kProducts, PP = P * P;  // M's positions along an axis, and in all
  static constexpr int Q = S::B.rows, QQ = Q * Q;     // V's: fewer where products share one
  static constexpr Positions<S> at_ = Positions<S>();
  static constexpr int kPhases = S::kStride * S::kStride;  // images of half the size, one after another in V's channels
  static constexpr int E = S::A.columns;                   // products a tile's outputs are made of, the borrowed one included
  static constexpr int kBefore = S::kBorrow >= 0 ? 1 : 0;  // outputs before the tile that its products reach
  static constexpr int D = S::kOut + kBefore;

  Bilinear(const Conv& c, Carver& ws, bool backward) : c_(c), C_(c.s.C_in), N_(c.s.C_out) {
    TH_ = static_cast<int>(ceil_div(c.s.OH, S::kOut)), TW_ = static_cast<int>(ceil_div(c.s.OW, S::kOut));
    PB_ = ceil_div(C_, kBlock), CB_ = kPhases * PB_, NB_ = ceil_div(N_, kBlock);
    K_ = kPhases == 1 ? C_ : CB_ * kBlock;
    tile_rows_ = int64_t(c.s.N) * TH_;
    const int64_t row_bytes = TW_ * (QQ * CB_ + PP * NB_) * kBlock * 4, weight_bytes = PP * packed_size(K_, N_) * 4;
    own_ = row_bytes <= 2 * kOwnChunkBytes && weight_bytes <= (backward ? kOwnGradientBytes : kOwnWeightBytes) &&
           (!backward || c.s.N >= 4);
    rows_ = std::clamp<int64_t>((own_ ? kOwnChunkBytes : kChunkBytes) / row_bytes, 1, tile_rows_);
    if (rows_ > TH_) rows_ = rows_ / TH_ * TH_;
    const int64_t chunks = ceil_div(tile_rows_, rows_);
    rows_ = ceil_div(tile_rows_, chunks);  // chunks of nearly equal size
    if (rows_ > TH_) rows_ = round_up(rows_, TH_);
    parts_ = own_ && backward ? std::min<int64_t>(kOwnParts, c.s.N) : 1;
    tiles_ = (rows_ + (S::kBorrow >= 0 ? 1 : 0)) * TW_;
    v_stride_ = CB_ * tiles_ * kBlock + kSkew, m_stride_ = NB_ * tiles_ * kBlock + kSkew;
    const bool need_V = !backward || c.want_dw || c.want_dx;
    const int64_t copies = own_ ? thread_count() : 1;
    V_ = need_V ? ws.take(copies * QQ * v_stride_) : nullptr;
    M_ = ws.take(copies * PP * m_stride_);
    zeros_ = ws.take(std::max(CB_, NB_) * kBlock);
    if (!backward || c.want_dx) U_ = ws.take(PP * (backward ? weight_size(N_, K_) : weight_size(K_, N_)));
    if (!backward) return;
    if (c.want_dx) turned_ = ws.take(int64_t(taps()) * C_ * N_);
    if (c.want_dw) dU_ = ws.take(parts_ * gradient_size());
    if (c.want_db) db_parts_ = ws.take(tile_rows_ * N_);
  }

  void forward() {
    std::fill(zeros_, zeros_ + std::max(CB_, NB_) * kBlock, 0.0f);
    transform_weights<true>(c_.w);
    if (own_)
      return parallel_blocks(tile_rows_, rows_, [&](int64_t q0, int64_t q1, int worker) {
        Bilinear mine = of_worker(worker);
        const int64_t last = mine.last_needed(q1), tiles = (last - q0) * TW_;
        for (int64_t q = q0; q < last; ++q) mine.transform_input(q, (q - q0) * TW_);
        for (int64_t p = 0; p < PP; ++p) mine.product(p, 0, tiles);
        for (int64_t q = q0; q < q1; ++q)
          mine.with_pool([&](auto pool) { mine.template transform_output<pool>(q, (q - q0) * TW_); });
      });
    for (int64_t q0 = 0; q0 < tile_rows_; q0 += rows_) {
      const int64_t q1 = std::min(tile_rows_, q0 + rows_), last = last_needed(q1);
      parallel(last - q0, [&](int64_t q, int) { transform_input(q0 + q, q * TW_); });
      const int64_t tiles = (last - q0) * TW_, parts = row_parts();
      parallel(PP * parts, [&](int64_t task, int) {
        product(task / parts, tiles * (task % parts) / parts, tiles * (task % parts + 1) / parts);
      });
      parallel(q1 - q0, [&](int64_t q, int) { with_pool([&](auto pool) { transform_output<pool>(q0 + q, q * TW_); }); });
    }
  }

  void backward() {
    std::fill(zeros_, zeros_ + std::max(CB_, NB_) * kBlock, 0.0f);
    if (c_.want_dx) {
      turn_weights();
      transform_weights<false>(turned_);
    }
    if (own_)
      parallel(parts_, [&](int64_t part, int worker) { of_worker(worker).backward_part(part); });
    else
      for (int64_t q0 = 0; q0 < tile_rows_; q0 += rows_) backward_chunk(q0, std::min(tile_rows_, q0 + rows_));
    if (c_.want_dw) finish_weights();
    if (c_.want_db) sum_parts(db_parts_, tile_rows_, N_, c_.db, N_);
  }

 private:
  // All steps of a part of the images, by one worker.
  void backward_part(int64_t part) {
    const int64_t begin = c_.s.N * part / parts_ * TH_, end = c_.s.N * (part + 1) / parts_ * TH_;
    for (int64_t q0 = begin; q0 < end; q0 += rows_) {
      const int64_t q1 = std::min(end, q0 + rows_), tiles = (q1 - q0) * TW_;
      for (int64_t q = q0; q < q1; ++q) {
        if (c_.want_dw) transform_input(q, (q - q0) * TW_);
        with_pool([&](auto pool) { transform_gradient<pool>(q, (q - q0) * TW_); });
      }
      for (int64_t v = 0; v < QQ; ++v) {
        if (c_.want_dw) weight_products(part, v, 0, CB_, tiles, q0 != begin);
        if (c_.want_dx) input_product(v, 0, tiles);
      }
      if (!c_.want_dx) continue;
      for (int64_t n = q0 / TH_; n < ceil_div(q1, TH_); ++n)
        for (int64_t block = 0; block < PB_; block += kStrip) transform_back(n, block, q0, q1);
    }
  }

  // Every step of a chunk by all workers.
  void backward_chunk(int64_t q0, int64_t q1) {
    const int64_t tiles = (q1 - q0) * TW_, parts = row_parts();
    parallel(q1 - q0, [&](int64_t q, int) {
      if (c_.want_dw) transform_input(q0 + q, q * TW_);
      with_pool([&](auto pool) { transform_gradient<pool>(q0 + q, q * TW_); });
    });
    if (c_.want_dw)
      parallel(QQ * parts, [&](int64_t task, int) {
        const int64_t v = task / parts, part = task % parts;
        weight_products(0, v, CB_ * part / parts, CB_ * (part + 1) / parts, tiles, q0 != 0);
        if (parts == 1 && c_.want_dx) input_product(v, 0, tiles);
      });
    if (!c_.want_dx) return;
    if (parts > 1 || !c_.want_dw)
      parallel(QQ * parts, [&](int64_t task, int) {
        input_product(task / parts, tiles * (task % parts) / parts, tiles * (task % parts + 1) / parts);
      });
    const int64_t n0 = q0 / TH_, n1 = ceil_div(q1, TH_), strips = ceil_div(PB_, kStrip);
    parallel((n1 - n0) * strips, [&](int64_t task, int) { transform_back(n0 + task / strips, task % strips * kStrip, q0, q1); });
  }

  // The products of M's position p, and the two gradients that V's position v takes part in.
  void product(int64_t p, int64_t tile0, int64_t tile1) const {
    multiply(tile0, tile1, K_, N_, V(at_.source[p]), U_ + p * weight_size(K_, N_), M(p), false);
  }
  void input_product(int64_t v, int64_t tile0, int64_t tile1) const {
    const int64_t first = at_.first[v];
    multiply_sum(tile0, tile1, N_, K_, constM(first), at_.count[v], m_stride_, U_ + first * weight_size(N_, K_), dV(v));
  }
  void weight_products(int64_t part, int64_t v, int64_t block0, int64_t block1, int64_t tiles, bool accumulate) const {
    for (int64_t p = at_.first[v]; p < at_.first[v] + at_.count[v]; ++p) {
      float* dU = dU_ + part * gradient_size() + p * (gradient_size() / PP);
      multiply_transposed(0, tiles, block0 * kBlock, block1 * kBlock, NB_ * kBlock, V(v), constM(p), {dU, NB_ * kBlock, kBlock},
                          accumulate);
    }
  }

  // This one with the worker's own V and M.
  Bilinear of_worker(int worker) const {
    Bilinear mine = *this;
    if (V_) mine.V_ += worker * QQ * v_stride_;
    mine.M_ += worker * PP * m_stride_;
    return mine;
  }
  // Of a position's weights; of all positions' gradients.
  static int64_t weight_size(int64_t K, int64_t N) { return packed_size(K, N) + kSkew; }
  int64_t gradient_size() const { return PP * (CB_ * kBlock * NB_ * kBlock + kSkew); }
  // A row of tiles more where the next one is borrowed from.
  int64_t last_needed(int64_t q1) const { return S::kBorrow >= 0 && q1 % TH_ != 0 ? q1 + 1 : q1; }

  // f(pool) with the pool as a constant; why_not() lets no other through, and none at all where products are borrowed.
  template <class F>
  void with_pool(F&& f) {
    if (c_.f.pool == 1) return f(std::integral_constant<int, 1>());
    if constexpr (S::kBorrow < 0) {
      if (c_.f.pool == 2) return f(std::integral_constant<int, 2>());
      if constexpr (S::kOut % 4 == 0) f(std::integral_constant<int, 4>());
    }
  }

  static constexpr int64_t kSkew = 3 * kBlock;  // keeps the positions out of each other's cache sets
  static constexpr int64_t kStrip = 4;          // channel blocks of dx that a task owns

  View V(int64_t p) const { return blocked(static_cast<const float*>(V_) + p * v_stride_, tiles_); }
  MutableView dV(int64_t p) const { return blocked(V_ + p * v_stride_, tiles_); }
  MutableView M(int64_t p) const { return blocked(M_ + p * m_stride_, tiles_); }
  View constM(int64_t p) const { return blocked(static_cast<const float*>(M_) + p * m_stride_, tiles_); }
  static int64_t row_parts() { return ceil_div(4 * thread_count(), QQ); }  // pieces of a position's work: enough tasks for all

  int taps() const { return c_.s.KH * c_.s.KW; }
  // Calls f(tap, i, j) for tap (i, j) of a phase's own taps, where the kernel has it.
  template <class F>
  WL_INLINE vf tap(int phase, int i, int j, F&& f) const {
    const int kh = S::kStride * i + phase / S::kStride, kw = S::kStride * j + phase % S::kStride;
    if (kPhases > 1 && (kh >= c_.s.KH || kw >= c_.s.KW)) return vf{};
    return f(int64_t(kh) * c_.s.KW + kw);
  }

  // U[p] = G w G^T, packed for multiply(). w is [taps, C, N] with the phases in U's rows, or [taps, N, C] with them in its columns.
  template <bool kForward>
  void transform_weights(const float* w) {
    const int64_t K = kForward ? C_ : N_, N = kForward ? N_ : C_, deep = kForward ? K_ : N_, columns = kForward ? N_ : K_;
    const int64_t wide = round_up(columns, kPanel), size = weight_size(deep, columns), each = PB_ * kBlock;
    parallel_blocks(deep, 4, [&](int64_t k0, int64_t k1, int) {
      for (int64_t k = k0; k < k1; ++k)
        for (int64_t n = 0; n < wide; n += kWidth) {
          const int phase = kPhases == 1 ? 0 : static_cast<int>((kForward ? k : n) / each);
          const int64_t row = kForward ? k - phase * each : k, column = kForward ? n : n - phase * each;
          const int part = row < K && phase < kPhases ? static_cast<int>(std::min<int64_t>(kWidth, N - column)) : 0;
          apply_2d<MatrixG<S>>(
              [&](int i, int j) __attribute__((always_inline)) {
                if (part <= 0) return vf{};
                return tap(phase, i, j, [&](int64_t t) { return load_part(w + (t * K + row) * N + column, part); });
              },
              [&](int i, int j, vf v) __attribute__((always_inline)) {
                // Backward, the products that share a position of V are one of as many times the depth.
                const int p = at_.of[i * P + j], group = at_.source[p];
                const int64_t first = kForward ? p : at_.first[group], runs = kForward ? 1 : at_.count[group];
                store(U_ + first * size + (n / kPanel * runs + p - first) * kPanel * deep + k * kPanel + n % kPanel, v);
              });
        }
    });
  }

  // [taps, C, N] -> [taps, N, C]
  void turn_weights() {
    const int64_t strips = ceil_div(N_, kBlock);
    parallel(taps() * strips, [&](int64_t task, int) {
      const float* from = c_.w + task / strips * C_ * N_;
      float* to = turned_ + task / strips * C_ * N_;
      const int64_t n0 = task % strips * kBlock, n1 = std::min<int64_t>(N_, n0 + kBlock);
      for (int64_t c0 = 0; c0 < C_; c0 += kBlock)
        for (int64_t n = n0; n < n1; ++n)
          for (int64_t k = c0; k < std::min<int64_t>(C_, c0 + kBlock); ++k) to[n * C_ + k] = from[k * N_ + n];
    });
  }

  // dw = G^T dU G
  void finish_weights() {
    const int64_t wide = NB_ * kBlock, size = gradient_size() / PP;
    if (parts_ > 1)
      parallel_blocks(gradient_size(), 4096, [&](int64_t begin, int64_t end, int) {
        sum_parts(dU_ + begin, parts_, gradient_size(), dU_ + begin, end - begin);
      });
    parallel_blocks(C_, 4, [&](int64_t k0, int64_t k1, int) {
      for (int64_t k = k0; k < k1; ++k)
        for (int phase = 0; phase < kPhases; ++phase)
          for (int64_t n = 0; n < N_; n += kWidth) {
            const int part = static_cast<int>(std::min<int64_t>(kWidth, N_ - n));
            const float* from = dU_ + (phase * PB_ * kBlock + k) * wide + n;
            apply_2d<MatrixGt<S>>([&](int i, int j)
                                      __attribute__((always_inline)) { return load(from + at_.of[i * P + j] * size); },
                                  [&](int i, int j, vf v) __attribute__((always_inline)) {
                                    tap(phase, i, j, [&](int64_t t) {
                                      store_part(c_.dw + (t * C_ + k) * N_ + n, v, part);
                                      return v;
                                    });
                                  });
          }
    });
  }

  // The source row and column of a tile's first element, of phase 0.
  int patch_row(int tile) const { return S::kUp == 2 ? tile * S::kInStep - 1 : S::kStride * tile * S::kInStep - c_.s.pad_top; }
  int patch_column(int tile) const {
    return S::kUp == 2 ? tile * S::kInStep - 1 : S::kStride * tile * S::kInStep - c_.s.pad_left;
  }

  // V of tile row q (numbered over all images), its tiles from `tile` on.
  __attribute__((noinline)) void transform_input(int64_t q, int64_t tile) {
    const int XH = c_.XH(), XW = c_.XW(), h0 = patch_row(static_cast<int>(q % TH_));
    const float* image = c_.x + q / TH_ * XH * XW * C_;
    for (int tw = 0; tw < TW_; ++tw, ++tile)
      for (int phase = 0; phase < kPhases; ++phase) {
        const int w0 = patch_column(tw) + phase % S::kStride, first = h0 + phase / S::kStride;
        const float* from[S::kIn * S::kIn];
        for (int i = 0; i < S::kIn; ++i)
          for (int j = 0; j < S::kIn; ++j) {
            const int h = first + S::kStride * i, w = w0 + S::kStride * j;
            from[i * S::kIn + j] = h >= 0 && w >= 0 && h < XH && w < XW ? image + (int64_t(h) * XW + w) * C_ : zeros_;
          }
        float* base = V_ + phase * PB_ * tiles_ * kBlock + tile * kBlock;
        for (int k = 0; k < C_; k += kWidth) {
          float* to = base + k / kBlock * tiles_ * kBlock + k % kBlock;
          auto put = [&](int i, int j, vf v) __attribute__((always_inline)) { store(to + (i * Q + j) * v_stride_, v); };
          if (const int part = C_ - k; part >= kWidth)
            apply_2d<MatrixB<S>>([&](int i, int j) __attribute__((always_inline)) { return load(from[i * S::kIn + j] + k); },
                                 put);
          else
            apply_2d<MatrixB<S>>(
                [&](int i, int j) __attribute__((always_inline)) { return load_part(from[i * S::kIn + j] + k, part); }, put);
        }
        if constexpr (kWidth < kBlock)  // the rest of the last block
          for (int64_t k = round_up(C_, kWidth); k < PB_ * kBlock; k += kWidth)
            for (int v = 0; v < QQ; ++v) store(base + v * v_stride_ + k / kBlock * tiles_ * kBlock + k % kBlock, vf{});
      }
  }

  // Outputs of tile row q from M: y = A M A^T, bias, activation, pool.
  template <int kPool>
  __attribute__((noinline)) void transform_output(int64_t q, int64_t tile) {
    const int th = static_cast<int>(q % TH_), POH = c_.POH(), POW = c_.POW();
    constexpr int kWindows = S::kOut / kPool;
    const int64_t n = q / TH_;
    const bool row_below = th + 1 < TH_;
    const int rows = std::min(kWindows, POH - th * kWindows);
    for (int tw = 0; tw < TW_; ++tw, ++tile) {
      const bool next = tw + 1 < TW_;
      const int columns = std::min(kWindows, POW - tw * kWindows);
      const int64_t at = ((n * POH + th * kWindows) * POW + tw * kWindows) * N_;
      for (int k = 0; k < N_; k += kWidth) {
        const int part = std::min(kWidth, N_ - k);
        const float* from = M_ + k / kBlock * tiles_ * kBlock + tile * kBlock + k % kBlock;
        vf y[S::kOut * S::kOut];
        apply_2d<MatrixA<S>>(
            [&](int i, int j) __attribute__((always_inline)) {
              const bool below = i == P, right = j == P;
              if ((below && !row_below) || (right && !next)) return vf{};
              const int64_t other = (below ? TW_ : 0) + (right ? 1 : 0);
              return load(from + at_.of[(below ? S::kBorrow : i) * P + (right ? S::kBorrow : j)] * m_stride_ + other * kBlock);
            },
            [&](int i, int j, vf v) __attribute__((always_inline)) { y[i * S::kOut + j] = v; });
        const vf bias = c_.bias ? load_part(c_.bias + k, part) : vf{};
#pragma GCC unroll 4
        for (int a = 0; a < kWindows; ++a)
#pragma GCC unroll 4
          for (int b = 0; b < kWindows; ++b) {
            if (a >= rows || b >= columns) continue;
            const int64_t to = at + (int64_t(a) * POW + b) * N_ + k;
            const vf* window = y + a * kPool * S::kOut + b * kPool;
            vf best = window[0];
            if constexpr (kPool > 1) {
              vi where{};
#pragma GCC unroll 16
              for (int i = 1; i < kPool * kPool; ++i) take_larger(window[i / kPool * S::kOut + i % kPool], i, best, where);
              if (c_.argmax) store_bytes(c_.argmax + to, where, part);
            }
            store_part(c_.out + to, activate(best + bias, c_.f.activation, c_.f.negative_slope), part);
          }
      }
    }
  }

  // dM of tile row q from dy, through pool and activation; its share of db on the way.
  template <int kPool>
  __attribute__((noinline)) void transform_gradient(int64_t q, int64_t tile) {
    // Windows (or pixels) of the output that a tile reaches, of which the first may be before it.
    constexpr int kSide = kPool == 1 ? D : S::kOut / kPool, kFirst = kPool == 1 ? kBefore : 0;
    const int th = static_cast<int>(q % TH_), POH = c_.POH(), POW = c_.POW();
    const int64_t image = q / TH_ * POH * POW * N_;
    float* db = c_.want_db ? db_parts_ + q * N_ : nullptr;
    if (db) std::fill(db, db + N_, 0.0f);
    const Activation kind = c_.f.activation;
    for (int tw = 0; tw < TW_; ++tw, ++tile) {
      int64_t at[kSide * kSide];  // -1 where there is none
      for (int i = 0; i < kSide * kSide; ++i) {
        const int h = th * (kSide - kFirst) - kFirst + i / kSide, w = tw * (kSide - kFirst) - kFirst + i % kSide;
        at[i] = h >= 0 && w >= 0 && h < POH && w < POW ? image + (int64_t(h) * POW + w) * N_ : -1;
      }
      for (int k = 0; k < N_; k += kWidth) {
        const int part = std::min(kWidth, N_ - k);
        vf d[D * D];
        vf total{};
#pragma GCC unroll 25
        for (int i = 0; i < kSide * kSide; ++i) {
          vf g{};
          vi where{};
          if (at[i] >= 0) {
            g = load_part(c_.dy + at[i] + k, part);
            if (kind != Activation::none) g = activate_backward(g, load_part(c_.y + at[i] + k, part), kind, c_.f.negative_slope);
            if constexpr (kPool > 1) where = load_bytes(c_.argmax + at[i] + k, part);
          }
          if (i / kSide >= kFirst && i % kSide >= kFirst) total += g;
          if constexpr (kPool == 1)
            d[i] = g;
          else
#pragma GCC unroll 16
            for (int j = 0; j < kPool * kPool; ++j)
              d[(i / kSide * kPool + j / kPool) * D + i % kSide * kPool + j % kPool] =
                  select(where == broadcast(int32_t(j)), g, vf{});
        }
        if (db) store_part(db + k, load_part(db + k, part) + total, part);
        float* to = M_ + k / kBlock * tiles_ * kBlock + tile * kBlock + k % kBlock;
        apply_2d<MatrixAt<S>>([&](int i, int j) __attribute__((always_inline)) { return d[i * D + j]; },
                              [&](int i, int j, vf v)
                                  __attribute__((always_inline)) { store(to + at_.of[i * P + j] * m_stride_, v); });
      }
      if constexpr (kWidth < kBlock)
        for (int64_t k = round_up(N_, kWidth); k < NB_ * kBlock; k += kWidth)
          for (int p = 0; p < PP; ++p)
            store(M_ + p * m_stride_ + k / kBlock * tiles_ * kBlock + tile * kBlock + k % kBlock, vf{});
    }
  }

  // dx of image n, channel blocks from `block` on: the patches of its tile rows in q0..q1, added up.
  __attribute__((noinline)) void transform_back(int64_t n, int64_t block, int64_t q0, int64_t q1) {
    const int XH = c_.XH(), XW = c_.XW();
    const int first = static_cast<int>(block * kBlock), last = std::min<int>(C_, first + static_cast<int>(kStrip * kBlock));
    float* image = c_.dx + n * XH * XW * C_;
    const int64_t begin = std::max(q0, n * TH_), end = std::min(q1, (n + 1) * TH_);
    if (begin == n * TH_)
      for (int64_t i = 0; i < int64_t(XH) * XW; ++i) std::fill(image + i * C_ + first, image + i * C_ + last, 0.0f);
    for (int64_t q = begin; q < end; ++q) {
      const int h0 = patch_row(static_cast<int>(q % TH_));
      int64_t tile = (q - q0) * TW_;
      for (int tw = 0; tw < TW_; ++tw, ++tile)
        for (int phase = 0; phase < kPhases; ++phase) {
          float* to[S::kIn * S::kIn];
          for (int i = 0; i < S::kIn; ++i)
            for (int j = 0; j < S::kIn; ++j) {
              const int h = h0 + S::kStride * i + phase / S::kStride;
              const int w = patch_column(tw) + S::kStride * j + phase % S::kStride;
              to[i * S::kIn + j] = h >= 0 && w >= 0 && h < XH && w < XW ? image + (int64_t(h) * XW + w) * C_ : nullptr;
            }
          for (int k = first; k < last; k += kWidth) {
            const int part = std::min(kWidth, last - k);
            const float* from = V_ + (phase * PB_ + k / kBlock) * tiles_ * kBlock + tile * kBlock + k % kBlock;
            apply_2d<MatrixBt<S>>([&](int i, int j)
                                      __attribute__((always_inline)) { return load(from + (i * Q + j) * v_stride_); },
                                  [&](int i, int j, vf v) __attribute__((always_inline)) {
                                    float* pixel = to[i * S::kIn + j];
                                    if (pixel) store_part(pixel + k, load_part(pixel + k, part) + v, part);
                                  });
          }
        }
    }
  }

  const Conv& c_;
  int C_, N_, TH_, TW_;
  bool own_;              // a worker goes through all steps alone
  int64_t PB_, CB_, NB_;  // blocks of channels: of a phase, of V, of M
  int64_t K_;             // channels that a product runs over
  int64_t parts_;
  int64_t tile_rows_, rows_, tiles_, v_stride_, m_stride_;
  float *V_ = nullptr, *M_ = nullptr, *zeros_ = nullptr, *U_ = nullptr, *turned_ = nullptr, *dU_ = nullptr, *db_parts_ = nullptr;
};

template <class S>
std::string why_not(const Conv& c) {
  if (c.f.precision == Precision::fp32_exact) return "precision fp32-exact allows no scheme that adds before it multiplies";
  const auto& s = c.s;
  if (S::kStride == 1 && (s.KH != 3 || s.KW != 3)) return "the scheme is for 3x3 kernels";
  if (s.KH > S::kTaps * S::kStride || s.KW > S::kTaps * S::kStride)
    return "the scheme is for kernels of at most " + std::to_string(S::kTaps * S::kStride);
  if (s.stride_h != S::kStride || s.stride_w != S::kStride) return "the scheme is for stride " + std::to_string(S::kStride);
  if (s.groups != 1) return "the scheme is for one group";
  if (c.f.upsample != S::kUp) return S::kUp == 2 ? "the scheme needs a folded upsample by 2" : "the scheme folds no upsample";
  if (S::kUp == 2 && (s.pad_top != 1 || s.pad_left != 1)) return "the scheme needs a padding of 1 at the top and the left";
  if (c.f.pool != 1 && (S::kOut % c.f.pool != 0 || c.f.pool > 4 || S::kBorrow >= 0))
    return "the scheme's tiles do not hold whole pool windows of " + std::to_string(c.f.pool);
  return "";
}

// Multiply-adds of the products, and the time of a dozen for every element transformed, twice as many where it goes through the last
// cache; of some more for a transformed weight, which is written and read once, from memory where they are many.
template <class S>
double cost(const Conv& c) {
  const double tiles = double(c.s.N) * ceil_div(c.s.OH, S::kOut) * ceil_div(c.s.OW, S::kOut);
  const double C = S::kStride * S::kStride * static_cast<double>(round_up(c.s.C_in, kBlock));
  const double N = static_cast<double>(round_up(c.s.C_out, kBlock)), weights = S::kProducts * S::kProducts * C * N;
  const double element = 4 * weights <= kOwnWeightBytes ? 12 : 24;
  const double weight = 4 * weights <= kCachedBytes ? 16 : 4 * weights <= 4 * kCachedBytes ? 48 : 100;
  const double inputs = S::B.rows * S::B.rows, products = S::kProducts * S::kProducts;
  return tiles * (products * C * N + element * (inputs * C + products * N)) + weights * weight;
}
template <class S>
void forward(const Conv& c, Carver& ws, bool run) {
  Bilinear<S> b(c, ws, false);
  if (run) b.forward();
}
template <class S>
void backward(const Conv& c, Carver& ws, bool run) {
  if (!c.want_dx && !c.want_dw) {
    if (c.want_db) bias_gradient(c, ws, run);
    return;
  }
  Bilinear<S> b(c, ws, true);
  if (run) b.backward();
}

template <class S>
constexpr Algorithm make() {
  return {S::name, why_not<S>, cost<S>, forward<S>, backward<S>};
}

}  // namespace

const Algorithm kWinograd4 = make<WinogradF4>(), kWinograd2 = make<WinogradF2>();
const Algorithm kUpsample9 = make<Upsample9>(), kUpsample25 = make<Upsample25>(), kUpsample81 = make<Upsample81>();
const Algorithm kStrided25 = make<Strided25>(), kStrided36 = make<Strided36>();

}  // namespace warploom::cpu
