// conv_pointwise.cpp - 1x1 kernels of stride one: a product of the activations as they are, in both directions.
//
// NHWC activations are the matrix [pixels, C_in] already. Backward takes a chunk of pixels through all three gradients while it is in
// the cache: dx = dz W^T straight to its place, dw += x^T dz and db += dz into the sums of a fixed number of parts. Only what a vector
// cannot read in place is copied: dz where an activation stands before it, rows of a length that is no multiple of 16.
#include "conv.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kForwardRows = 224, kBackwardRows = 448;
constexpr int64_t kParts = 16;
constexpr int64_t kSumBytes = 8 << 20;  // of all parts' gradients of the weights

void forward(const Conv& c, Carver& ws, bool run) {
  const int64_t C = c.s.C_in, N = c.s.C_out, N16 = round_up(N, kBlock), pixels = int64_t(c.s.N) * c.s.OH * c.s.OW;
  float* packed = ws.take(packed_size(C, N));
  float* scratch = ws.take(thread_count() * kForwardRows * N16);
  if (!run) return;
  pack_rows(c.w, C, N, packed);
  parallel_blocks(pixels, kForwardRows, [&](int64_t begin, int64_t end, int worker) {
    const View x = {c.x + begin * C, C, kBlock};
    if (!c.bias && c.f.activation == Activation::none)
      return multiply(0, end - begin, C, N, x, packed, {c.out + begin * N, N, kBlock}, true);
    const MutableView result = blocked(scratch + worker * kForwardRows * N16, kForwardRows);
    multiply(0, end - begin, C, N, x, packed, result, false);
    finish_rows(c, result, begin, end - begin, 0, static_cast<int>(N));
  });
}

class Gradients {
 public:
  Gradients(const Conv& c, Carver& ws)
      : c_(c), C_(c.s.C_in), N_(c.s.C_out), C16_(round_up(C_, kBlock)), N16_(round_up(N_, kBlock)) {
    pixels_ = int64_t(c.s.N) * c.s.OH * c.s.OW;
    chunks_ = ceil_div(pixels_, kBackwardRows);
    parts_ = std::clamp<int64_t>(chunks_, 1, kParts);
    if (c.want_dw) parts_ = std::clamp<int64_t>(kSumBytes / (C16_ * N16_ * 4), 1, parts_);
    copies_x_ = c.want_dw && C_ != C16_;
    copies_dz_ = N_ != N16_ || c.f.activation != Activation::none;
    each_ = kBackwardRows * ((copies_x_ ? C16_ : 0) + (copies_dz_ ? N16_ : 0));
    scratch_ = ws.take(thread_count() * each_);
    if (c.want_dx) packed_ = ws.take(packed_size(N_, C_));
    if (c.want_dw) dw_parts_ = ws.take(parts_ * C16_ * N16_);
    if (c.want_db) db_parts_ = ws.take(parts_ * N16_);
  }

  // Whether there are enough parts to keep threads busy: else the weights are large and a product by itself is better.
  static bool suits(const Conv& c) { return int64_t(c.s.C_in) * c.s.C_out * 4 <= kSumBytes / 4; }

  void run() {
    if (c_.want_dx)
      parallel(ceil_div(C_, kPanel), [&](int64_t panel, int) { pack_panel(c_.w, 1, N_, N_, 0, N_, C_, panel, packed_); });
    parallel(parts_, [&](int64_t part, int worker) {
      if (c_.want_db) std::fill(db_parts_ + part * N16_, db_parts_ + (part + 1) * N16_, 0.0f);
      const int64_t first = chunks_ * part / parts_, last = chunks_ * (part + 1) / parts_;
      for (int64_t chunk = first; chunk < last; ++chunk) one_chunk(chunk, part, worker, chunk != first);
    });
    if (c_.want_db) sum_parts(db_parts_, parts_, N16_, c_.db, N_);
    if (c_.want_dw)
      parallel_blocks(C_, 16, [&](int64_t begin, int64_t end, int) {
        for (int64_t k = begin; k < end; ++k) sum_parts(dw_parts_ + k * N16_, parts_, C16_ * N16_, c_.dw + k * N_, N_);
      });
  }

 private:
  void one_chunk(int64_t chunk, int64_t part, int worker, bool add) const {
    const int64_t begin = chunk * kBackwardRows, rows = std::min(pixels_, begin + kBackwardRows) - begin;
    float* scratch = scratch_ + worker * each_;
    View x = {c_.x ? c_.x + begin * C_ : nullptr, C_, kBlock}, dz = {c_.dy + begin * N_, N_, kBlock};
    if (copies_dz_) {
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t k = 0; k < N16_; k += kWidth) {
          const int size = static_cast<int>(std::min<int64_t>(kWidth, N_ - k));
          store(scratch + i * N16_ + k, size > 0 ? gradient((begin + i) * N_ + k, size) : vf{});
        }
      dz = {scratch, N16_, kBlock};
      scratch += kBackwardRows * N16_;
    }
    if (copies_x_) {
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t k = 0; k < C16_; k += kWidth) {
          const int size = static_cast<int>(std::min<int64_t>(kWidth, C_ - k));
          store(scratch + i * C16_ + k, size > 0 ? load_part(x.data + i * C_ + k, size) : vf{});
        }
      x = {scratch, C16_, kBlock};
    }
    if (c_.want_dw) multiply_transposed(0, rows, 0, C16_, N16_, x, dz, {dw_parts_ + part * C16_ * N16_, N16_, kBlock}, add);
    if (c_.want_dx) multiply(0, rows, N_, C_, dz, packed_, {c_.dx + begin * C_, C_, kBlock}, true);
    if (!c_.want_db) return;
    for (int64_t k = 0; k < N16_; k += kWidth) {  // a chunk's own sum first: short sums round less
      vf sum{};
      for (int64_t i = 0; i < rows; ++i) sum += load(dz.at(i, k));
      store(db_parts_ + part * N16_ + k, load(db_parts_ + part * N16_ + k) + sum);
    }
  }

  vf gradient(int64_t at, int n) const {
    const vf d = load_part(c_.dy + at, n);
    if (c_.f.activation == Activation::none) return d;
    return activate_backward(d, load_part(c_.y + at, n), c_.f.activation, c_.f.negative_slope);
  }

  const Conv& c_;
  int64_t C_, N_, C16_, N16_, pixels_, chunks_, parts_, each_;
  bool copies_x_, copies_dz_;
  float *scratch_ = nullptr, *packed_ = nullptr, *dw_parts_ = nullptr, *db_parts_ = nullptr;
};

void backward(const Conv& c, Carver& ws, bool run) {
  if (!Gradients::suits(c)) return kIm2col.backward(c, ws, run);
  Gradients g(c, ws);
  if (run) g.run();
}

std::string why_not(const Conv& c) {
  const auto& s = c.s;
  if (s.KH != 1 || s.KW != 1 || s.stride_h != 1 || s.stride_w != 1)
    return "the pointwise product is for 1x1 kernels with stride 1";
  if (s.pad_top != 0 || s.pad_left != 0 || s.OH != s.H || s.OW != s.W) return "the pointwise product takes no padding";
  if (s.groups != 1) return "the pointwise product is for one group";
  if (c.f.upsample != 1 || c.f.pool != 1) return "the pointwise product folds neither upsample nor max pool";
  return "";
}

double cost(const Conv& c) {
  const double pixels = double(c.s.N) * c.s.OH * c.s.OW;
  return pixels * (double(c.s.C_in) * panel_columns(c.s.C_out) + 4.0 * (c.s.C_in + c.s.C_out)) + 48.0 * c.s.C_in * c.s.C_out;
}

}  // namespace

const Algorithm kPointwise = {"pointwise", why_not, cost, forward, backward};

}  // namespace warploom::cpu
