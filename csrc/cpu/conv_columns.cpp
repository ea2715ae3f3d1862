// conv_columns.cpp - few outputs: multiply every input pixel with all taps at once, then add up what belongs together.
//
// P[pixel][tap, o] = sum over c of x[pixel][c] w[tap][c][o] is one product of NHWC activations, unpacked, with a matrix of KH *
// KW * C_out columns; an output pixel is the sum of one column group per tap. With a nearest upsample folded in, P is taken on
// the small image: 4x fewer multiplications for a factor of two, and the large image never exists. Backward is the adjoint: dP
// gathers dy, dx = dP W^T, dw = x^T dP. Bands of rows are tasks; long sums are cut into a fixed number of segments.
#include "conv.h"

namespace warploom::cpu {
namespace {

constexpr int kBandPixels = 1024;
constexpr int64_t kSegments = 64;

class Columns {
 public:
  Columns(const Conv& c, Carver& ws, bool backward)
      : c_(c), C_(c.s.C_in), N_(c.s.C_out), taps_(c.s.KH * c.s.KW), up_(c.f.upsample), XH_(c.XH()), XW_(c.XW()) {
    width_ = round_up(int64_t(taps_) * N_, kBlock);
    pitch_ = width_ + kWidth;  // whole vectors may be read and written at the last column
    band_ = std::clamp(kBandPixels / XW_, 1, XH_);
    bands_ = ceil_div(XH_, band_);
    if (!backward) {
      packed_ = ws.take(packed_size(C_, taps_ * N_));
      reach_ = ceil_div(c.s.KH - 1, up_) + 1;  // rows of P beyond its own that a band of outputs may need
      each_ = (band_ + reach_) * XW_ * pitch_;
      scratch_ = ws.take(thread_count() * each_);
      return;
    }
    packed_ = ws.take(packed_size(taps_ * N_, C_));
    each_ = int64_t(band_) * XW_ * pitch_;
    scratch_ = ws.take(thread_count() * each_);
    segments_ = std::min<int64_t>(kSegments, c.s.N * bands_);
    if (c.want_dw) dw_parts_ = ws.take(segments_ * C_ * width_);
    if (c.want_db) db_parts_ = ws.take(segments_ * kWidth);
  }

  void forward() {
    parallel_blocks(C_, 16, [&](int64_t k0, int64_t k1, int) {
      for (int64_t k = k0; k < k1; ++k)
        for (int64_t j = 0; j < round_up(taps_ * N_, kPanel); ++j)
          packed_[j / kPanel * kPanel * C_ + k * kPanel + j % kPanel] =
              j < taps_ * N_ ? c_.w[(j / N_ * C_ + k) * N_ + j % N_] : 0.0f;
    });
    // A band of outputs: the rows whose first look falls into the band's input rows.
    const int64_t out_band = int64_t(band_) * up_, out_bands = ceil_div(c_.s.OH, out_band);
    parallel(c_.s.N * out_bands, [&](int64_t task, int worker) {
      const int64_t n = task / out_bands;
      const int first = static_cast<int>(task % out_bands * out_band),
                last = static_cast<int>(std::min<int64_t>(c_.s.OH, first + out_band));
      const int low = std::max(0, floor_div(first - c_.s.pad_top)),
                high = std::min(XH_ - 1, floor_div(last - 1 - c_.s.pad_top + c_.s.KH - 1));
      float* P = scratch_ + worker * each_;
      const float* x = c_.x + (n * XH_ + low) * XW_ * C_;
      if (high >= low)
        multiply(0, int64_t(high - low + 1) * XW_, C_, taps_ * N_, {x, C_, kBlock}, packed_, {P, pitch_, kBlock}, false);
      for (int oh = first; oh < last; ++oh) gather_row(P, low, n, oh);
    });
  }

  void backward() {
    if (c_.want_dx) {
      const int64_t panels = ceil_div(C_, kPanel);
      parallel(panels, [&](int64_t panel, int) {
        for (int t = 0; t < taps_; ++t)
          pack_panel(c_.w + int64_t(t) * C_ * N_, 1, N_, taps_ * N_, int64_t(t) * N_, N_, C_, panel, packed_);
      });
    }
    const int64_t all = c_.s.N * bands_;
    parallel(segments_, [&](int64_t segment, int worker) {
      float* dP = scratch_ + worker * each_;
      vf bias{};
      const int64_t begin = all * segment / segments_, end = all * (segment + 1) / segments_;
      for (int64_t task = begin; task < end; ++task) {
        const int64_t n = task / bands_;
        const int first = static_cast<int>(task % bands_ * band_), last = std::min(XH_, first + band_);
        for (int h = first; h < last; ++h) scatter_row(dP + int64_t(h - first) * XW_ * pitch_, n, h);
        const int64_t pixels = int64_t(last - first) * XW_, at = (n * XH_ + first) * XW_ * C_;
        if (c_.want_dw)
          multiply_transposed(0, pixels, 0, C_, width_, {c_.x + at, C_, kBlock}, {dP, pitch_, kBlock},
                              {dw_parts_ + segment * C_ * width_, width_, kBlock}, task != begin);
        if (c_.want_dx) multiply(0, pixels, taps_ * N_, C_, {dP, pitch_, kBlock}, packed_, {c_.dx + at, C_, kBlock}, true);
        if (c_.want_db) {
          const int stop = last == XH_ ? c_.s.OH : std::min(c_.s.OH, last * up_);
          for (int64_t oh = std::min(c_.s.OH, first * up_); oh < stop; ++oh) {
            vf row{};
            for (int64_t ow = 0; ow < c_.s.OW; ++ow) row += gradient(((n * c_.s.OH + oh) * c_.s.OW + ow) * N_);
            bias += row;
          }
        }
      }
      if (c_.want_db) store(db_parts_ + segment * kWidth, bias);
    });
    if (c_.want_db) sum_parts(db_parts_, segments_, kWidth, c_.db, N_);
    if (!c_.want_dw) return;
    sum_parallel();
    parallel_blocks(C_, 16, [&](int64_t k0, int64_t k1, int) {
      for (int64_t k = k0; k < k1; ++k)
        for (int j = 0; j < taps_ * N_; ++j) c_.dw[(j / N_ * C_ + k) * N_ + j % N_] = dw_parts_[k * width_ + j];
    });
  }

 private:
  int floor_div(int a) const { return a >= 0 ? a / up_ : -((-a + up_ - 1) / up_); }

  vf gradient(int64_t at) const {
    const vf d = load_part(c_.dy + at, N_);
    if (c_.f.activation == Activation::none) return d;
    return activate_backward(d, load_part(c_.y + at, N_), c_.f.activation, c_.f.negative_slope);
  }

  void gather_row(const float* P, int low, int64_t n, int oh) const {
    const vf bias = c_.bias ? load_part(c_.bias, N_) : vf{};
    float* y = c_.out + (n * c_.s.OH + oh) * c_.s.OW * N_;
    for (int ow = 0; ow < c_.s.OW; ++ow, y += N_) {
      vf total = bias;
      for (int kh = 0; kh < c_.s.KH; ++kh) {
        const int h = oh - c_.s.pad_top + kh;
        if (h < 0 || h >= c_.s.H) continue;
        const float* row = P + int64_t((up_ == 2 ? h >> 1 : h / up_) - low) * XW_ * pitch_ + int64_t(kh) * c_.s.KW * N_;
        for (int kw = 0; kw < c_.s.KW; ++kw) {
          const int w = ow - c_.s.pad_left + kw;
          if (w >= 0 && w < c_.s.W) total += load(row + (up_ == 2 ? w >> 1 : w / up_) * pitch_ + kw * N_);
        }
      }
      store_part(y, activate(total, c_.f.activation, c_.f.negative_slope), N_);
    }
  }

  // dP of row h: every tap's outputs that looked at a pixel, up x up of them.
  void scatter_row(float* dP, int64_t n, int h) const {
    const int OH = c_.s.OH, OW = c_.s.OW;
    for (int w = 0; w < XW_; ++w, dP += pitch_) {
      for (int kh = 0; kh < c_.s.KH; ++kh)
        for (int kw = 0; kw < c_.s.KW; ++kw) {
          const int h0 = h * up_ + c_.s.pad_top - kh, w0 = w * up_ + c_.s.pad_left - kw;
          vf total{};
          for (int oh = std::max(0, h0); oh < std::min(OH, h0 + up_); ++oh)
            for (int ow = std::max(0, w0); ow < std::min(OW, w0 + up_); ++ow) total += gradient(((n * OH + oh) * OW + ow) * N_);
          store(dP + (kh * c_.s.KW + kw) * N_, total);  // what it writes past its own columns the next tap overwrites
        }
      for (int64_t j = int64_t(taps_) * N_; j < width_; ++j) dP[j] = 0.0f;
    }
  }

  void sum_parallel() {
    parallel_blocks(C_ * width_, 1024, [&](int64_t begin, int64_t end, int) {
      sum_parts(dw_parts_ + begin, segments_, C_ * width_, dw_parts_ + begin, end - begin);
    });
  }

  const Conv& c_;
  int C_, N_, taps_, up_, XH_, XW_, band_;
  int64_t width_, pitch_, bands_, reach_ = 0, each_ = 0, segments_ = 0;
  float *packed_ = nullptr, *scratch_ = nullptr, *dw_parts_ = nullptr, *db_parts_ = nullptr;
};

std::string why_not(const Conv& c) {
  if (c.s.C_out > 4) return "the scheme of tap columns is for at most 4 outputs";
  if (c.s.groups != 1) return "the scheme of tap columns is for one group";
  if (c.s.stride_h != 1 || c.s.stride_w != 1) return "the scheme of tap columns is for stride 1";
  if (c.s.C_in % kBlock != 0) return "the scheme of tap columns needs input channels that are a multiple of 16";
  if (c.f.pool != 1) return "the scheme of tap columns folds no max pool";
  return "";
}
double cost(const Conv& c) {
  const double pixels = double(c.s.N) * c.XH() * c.XW(), columns = double(c.s.KH) * c.s.KW * c.s.C_out;
  return pixels * c.s.C_in * static_cast<double>(round_up(static_cast<int64_t>(columns), kPanel)) +
         40.0 * c.s.N * c.s.OH * c.s.OW * c.s.KH * c.s.KW;
}
void forward(const Conv& c, Carver& ws, bool run) {
  Columns columns(c, ws, false);
  if (run) columns.forward();
}
void backward(const Conv& c, Carver& ws, bool run) {
  Columns columns(c, ws, true);
  if (run) columns.backward();
}

}  // namespace

const Algorithm kColumns = {"columns", why_not, cost, forward, backward};

}  // namespace warploom::cpu
