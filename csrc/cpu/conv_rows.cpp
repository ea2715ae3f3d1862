// conv_rows.cpp - any kernel and stride without patches: the rows of a padded NHWC image are the matrix.
//
// What a kernel row sees at neighbouring pixels are runs of KW * C_in neighbouring floats that overlap, stride * C_in apart: a
// matrix with a row stride shorter than its rows. So a band of the image is copied once, with zeros around it, and every row of
// outputs is a product of KH such runs with the weights as they are. The gradient of the input is the same with dy and the turned
// weights, one such convolution for each pixel modulo the stride; the gradient of the weights multiplies the band, transposed, with
// dy. Bands are tasks; sums over them are cut into a fixed number of parts. Best with few channels, where patches or transforms cost
// more than the products.
#include <optional>

#include "conv.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kBandBytes = 192 << 10;      // of a padded band: within the second-level cache beside the weights
constexpr int64_t kGradientBytes = 512 << 10;  // of a gradient of the weights: many parts of it are kept
constexpr int64_t kParts = 16, kMostPhases = 1024;
constexpr int kMargin = 32;  // floats behind a band that a whole block may read

int band_rows(int64_t row_floats, int step, int extra, int rows) {
  return static_cast<int>(
      std::clamp<int64_t>((kBandBytes / 4 / std::max<int64_t>(row_floats, 1) - extra) / step, 1, std::max(rows, 1)));
}

// Rows first.. of an image [H, W, C] with zeros outside, columns from -left on: [rows][pitch][C]. put(to, at, n) copies n floats.
template <class Put>
void pad_band(int H, int W, int C, int64_t first, int rows, int left, int64_t pitch, float* to, Put&& put) {
  for (int r = 0; r < rows; ++r, to += pitch * C) {
    const int64_t h = first + r;
    if (h < 0 || h >= H) {
      std::fill(to, to + pitch * C, 0.0f);
      continue;
    }
    const int64_t from = std::max(0, -left), begin = std::max(0, left), count = std::clamp<int64_t>(W - from, 0, pitch - begin);
    std::fill(to, to + begin * C, 0.0f);
    put(to + begin * C, (h * W + from) * C, count * C);
    std::fill(to + (begin + count) * C, to + pitch * C, 0.0f);
  }
}

void copy(float* to, const float* from, int64_t n) {
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(to + i, load(from + i));
  if (i < n) store_part(to + i, load_part(from + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

// dy through the activation, n floats from `at` on.
void copy_gradient(const Conv& c, float* to, int64_t at, int64_t n) {
  if (c.f.activation == Activation::none) return copy(to, c.dy + at, n);
  for (int64_t i = 0; i < n; i += kWidth) {
    const int part = static_cast<int>(std::min<int64_t>(kWidth, n - i));
    const vf d = load_part(c.dy + at + i, part), y = load_part(c.y + at + i, part);
    store_part(to + i, activate_backward(d, y, c.f.activation, c.f.negative_slope), part);
  }
}

class Forward {
 public:
  Forward(const Conv& c, Carver& ws) : c_(c), K_(int64_t(c.s.KH) * c.s.KW * c.s.C_in), N_(c.s.C_out) {
    const auto& s = c.s;
    pitch_ = int64_t(s.OW - 1) * s.stride_w + s.KW;
    band_ = band_rows(pitch_ * s.C_in, s.stride_h, s.KH, s.OH);
    image_ = round_up(((band_ - 1) * int64_t(s.stride_h) + s.KH) * pitch_ * s.C_in + kMargin, 32);
    each_ = image_ + round_up(N_, kBlock) * s.OW;
    packed_ = ws.take(packed_size(K_, N_));
    scratch_ = ws.take(thread_count() * each_);
  }
  void run() {
    const auto& s = c_.s;
    pack_rows(c_.w, K_, N_, packed_);
    const int64_t bands = ceil_div(s.OH, band_);
    parallel(s.N * bands, [&](int64_t task, int worker) {
      const int64_t n = task / bands;
      const int first = static_cast<int>(task % bands) * band_, last = std::min(s.OH, first + band_);
      float* image = scratch_ + worker * each_;
      const float* x = c_.x + n * s.H * s.W * s.C_in;
      pad_band(s.H, s.W, s.C_in, int64_t(first) * s.stride_h - s.pad_top, (last - first - 1) * s.stride_h + s.KH, s.pad_left,
               pitch_, image, [&](float* to, int64_t at, int64_t count) { copy(to, x + at, count); });
      const MutableView result = blocked(image + image_, s.OW);
      for (int oh = first; oh < last; ++oh) {
        const float* row = image + int64_t(oh - first) * s.stride_h * pitch_ * s.C_in;
        multiply_runs(s.OW, {row, int64_t(s.stride_w) * s.C_in, int64_t(s.KW) * s.C_in, s.KH, pitch_ * s.C_in}, N_, packed_,
                      result);
        finish_rows(c_, result, (n * s.OH + oh) * s.OW, s.OW, 0, static_cast<int>(N_));
      }
    });
  }

 private:
  const Conv& c_;
  int64_t K_, N_, pitch_, image_, each_;
  int band_;
  float *packed_, *scratch_;
};

// Along one axis: the pixels of dx that are `first` modulo the stride see the taps last_tap, last_tap - stride, ..., `taps` of them,
// at outputs `start`, start + 1, ... beyond their own number.
struct Axis {
  int first, last_tap, taps, start, pixels;
};
std::vector<Axis> axes(int size, int kernel, int stride, int pad) {
  std::vector<Axis> found;
  for (int a = 0; a < std::min(stride, size); ++a) {
    Axis x{a, -1, 0, 0, static_cast<int>(ceil_div(size - a, stride))};
    for (int k = kernel - 1; k >= 0; --k)
      if ((a + pad - k) % stride == 0) {
        if (x.taps++ == 0) x.last_tap = k, x.start = (a + pad - k) / stride;
      }
    found.push_back(x);
  }
  return found;
}

class InputGradient {
 public:
  InputGradient(const Conv& c, Carver& ws)
      : c_(c), rows_(axes(c.s.H, c.s.KH, c.s.stride_h, c.s.pad_top)), columns_(axes(c.s.W, c.s.KW, c.s.stride_w, c.s.pad_left)) {
    // One padded band serves all phases: outputs low_..high_ rows, left_.. columns around a pixel's own number.
    int right = 0;
    for (const Axis& a : rows_)
      if (a.taps) low_ = std::min(low_, a.start), high_ = std::max(high_, a.start + a.taps - 1);
    for (const Axis& a : columns_)
      if (a.taps) left_ = std::min(left_, a.start), right = std::max(right, a.start + a.taps - 1);
    pitch_ = columns_[0].pixels + right - left_;
    const int64_t N = c.s.C_out;
    band_ = band_rows(pitch_ * N, 1, high_ - low_ + 1, rows_[0].pixels);
    image_ = round_up((band_ + high_ - low_) * pitch_ * N + kMargin, 32);
    each_ = image_ + round_up(c.s.C_in, kBlock) * columns_[0].pixels;
    int64_t size = 0;
    for (const Axis& a : rows_)
      for (const Axis& b : columns_) packed_at_.push_back(size), size += packed_size(int64_t(a.taps) * b.taps * N, c.s.C_in);
    packed_ = ws.take(size);
    scratch_ = ws.take(thread_count() * each_);
  }
  void run() {
    pack();
    const auto& s = c_.s;
    const int64_t bands = ceil_div(rows_[0].pixels, band_), N = s.C_out, C = s.C_in;
    parallel(s.N * bands, [&](int64_t task, int worker) {
      const int64_t n = task / bands;
      const int first = static_cast<int>(task % bands) * band_, last = std::min(rows_[0].pixels, first + band_);
      float* image = scratch_ + worker * each_;
      const int64_t base = n * s.OH * s.OW * N;
      pad_band(s.OH, s.OW, s.C_out, first + low_, last - first + high_ - low_, -left_, pitch_, image,
               [&](float* to, int64_t at, int64_t count) { copy_gradient(c_, to, base + at, count); });
      const MutableView result = blocked(image + image_, columns_[0].pixels);
      for (size_t a = 0; a < rows_.size(); ++a)
        for (size_t b = 0; b < columns_.size(); ++b) {
          const Axis &rows = rows_[a], &columns = columns_[b];
          for (int i = first; i < std::min(last, rows.pixels); ++i) {
            const float* from = image + ((i - first + rows.start - low_) * pitch_ + columns.start - left_) * N;
            float* to = c_.dx + ((n * s.H + rows.first + int64_t(i) * s.stride_h) * s.W + columns.first) * C;
            if (rows.taps && columns.taps)
              multiply_runs(columns.pixels, {from, N, columns.taps * N, rows.taps, pitch_ * N}, C,
                            packed_ + packed_at_[a * columns_.size() + b], result);
            for (int j = 0; j < columns.pixels; ++j, to += s.stride_w * C)
              for (int64_t k = 0; k < C; k += kWidth)
                store_part(to + k, rows.taps && columns.taps ? load(result.at(j, k)) : vf{},
                           static_cast<int>(std::min<int64_t>(kWidth, C - k)));
          }
        }
    });
  }

 private:
  void pack() {
    const auto& s = c_.s;
    const int64_t N = s.C_out, C = s.C_in, panels = ceil_div(C, kPanel), phases = static_cast<int64_t>(packed_at_.size());
    parallel(phases * panels, [&](int64_t task, int) {
      const Axis &rows = rows_[static_cast<size_t>(task / panels) / columns_.size()],
                 &columns = columns_[static_cast<size_t>(task / panels) % columns_.size()];
      const int64_t K = int64_t(rows.taps) * columns.taps * N;
      float* packed = packed_ + packed_at_[static_cast<size_t>(task / panels)];
      for (int i = 0; i < rows.taps; ++i)
        for (int j = 0; j < columns.taps; ++j) {
          const int64_t tap = int64_t(rows.last_tap - i * s.stride_h) * s.KW + columns.last_tap - j * s.stride_w;
          pack_panel(c_.w + tap * C * N, 1, N, K, (int64_t(i) * columns.taps + j) * N, N, C, task % panels, packed);
        }
    });
  }

  const Conv& c_;
  std::vector<Axis> rows_, columns_;
  std::vector<int64_t> packed_at_;
  int low_ = 0, high_ = 0, left_ = 0, band_ = 0;
  int64_t pitch_ = 0, image_ = 0, each_ = 0;
  float *packed_ = nullptr, *scratch_ = nullptr;
};

class WeightGradient {
 public:
  WeightGradient(const Conv& c, Carver& ws) : c_(c), run_(int64_t(c.s.KW) * c.s.C_in), N16_(round_up(c.s.C_out, kBlock)) {
    const auto& s = c.s;
    pitch_ = int64_t(s.OW - 1) * s.stride_w + s.KW;
    band_ = band_rows(pitch_ * s.C_in + s.OW * N16_, s.stride_h, s.KH, s.OH);
    bands_ = ceil_div(s.OH, band_);
    parts_ = std::clamp<int64_t>(s.N * bands_ / 2, 1, kParts);
    image_ = round_up(((band_ - 1) * int64_t(s.stride_h) + s.KH) * pitch_ * s.C_in + kMargin, 32);
    each_ = image_ + round_up(band_ * int64_t(s.OW) * N16_, 32);
    scratch_ = ws.take(thread_count() * each_);
    sums_ = ws.take(parts_ * size());
  }
  static int64_t bytes(const Conv& c) {
    return 4 * c.s.KH * round_up(int64_t(c.s.KW) * c.s.C_in, kBlock) * round_up(c.s.C_out, kBlock);
  }

  void run() {
    parallel(parts_, [&](int64_t part, int worker) {
      const int64_t all = c_.s.N * bands_, begin = all * part / parts_, end = all * (part + 1) / parts_;
      for (int64_t task = begin; task < end; ++task) band(task, scratch_ + worker * each_, sums_ + part * size(), task != begin);
    });
    const int64_t N = c_.s.C_out, R16 = round_up(run_, kBlock);
    parallel_blocks(c_.s.KH * run_, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t k = begin; k < end; ++k)
        sum_parts(sums_ + (k / run_ * R16 + k % run_) * N16_, parts_, size(), c_.dw + k * N, N);
    });
  }

 private:
  int64_t size() const { return c_.s.KH * round_up(run_, kBlock) * N16_; }

  void band(int64_t task, float* image, float* sums, bool add) const {
    const auto& s = c_.s;
    const int64_t n = task / bands_, N = s.C_out, R16 = round_up(run_, kBlock);
    const int first = static_cast<int>(task % bands_) * band_, last = std::min(s.OH, first + band_);
    const float* x = c_.x + n * s.H * s.W * s.C_in;
    const int rows = (last - first - 1) * s.stride_h + s.KH;
    pad_band(s.H, s.W, s.C_in, int64_t(first) * s.stride_h - s.pad_top, rows, s.pad_left, pitch_, image,
             [&](float* to, int64_t at, int64_t count) { copy(to, x + at, count); });
    std::fill(image + rows * pitch_ * s.C_in, image + rows * pitch_ * s.C_in + kMargin, 0.0f);
    float* dz = image + image_;
    const int64_t at = (n * s.OH + first) * s.OW * N, pixels = int64_t(last - first) * s.OW;
    if (N == N16_) {
      copy_gradient(c_, dz, at, pixels * N);
    } else {
      for (int64_t i = 0; i < pixels; ++i) {
        copy_gradient(c_, dz + i * N16_, at + i * N, N);
        std::fill(dz + i * N16_ + N, dz + (i + 1) * N16_, 0.0f);
      }
    }
    for (int kh = 0; kh < s.KH; ++kh)
      for (int oh = first; oh < last; ++oh)
        multiply_transposed(
            0, s.OW, 0, R16, N16_,
            {image + ((oh - first) * int64_t(s.stride_h) + kh) * pitch_ * s.C_in, int64_t(s.stride_w) * s.C_in, kBlock},
            {dz + (oh - first) * s.OW * N16_, N16_, kBlock}, {sums + kh * R16 * N16_, N16_, kBlock}, add || oh != first);
  }

  const Conv& c_;
  int64_t run_, N16_, pitch_, bands_, parts_, image_, each_;
  int band_;
  float *scratch_, *sums_;
};

void forward(const Conv& c, Carver& ws, bool run) {
  Forward f(c, ws);
  if (run) f.run();
}

void backward(const Conv& c, Carver& ws, bool run) {
  if (c.want_db) bias_gradient(c, ws, run);
  if (c.want_dx) {
    InputGradient g(c, ws);
    if (run) g.run();
  }
  if (!c.want_dw) return;
  if (WeightGradient::bytes(c) > kGradientBytes) {  // a large one is better summed in one place
    Conv weight = c;
    weight.want_dx = weight.want_db = false;
    return kIm2col.backward(weight, ws, run);
  }
  WeightGradient g(c, ws);
  if (run) g.run();
}

std::string why_not(const Conv& c) {
  if (c.s.groups != 1) return "the scheme of padded rows is for one group";
  if (c.f.upsample != 1) return "the scheme of padded rows folds no upsample";
  if (c.f.pool != 1) return "the scheme of padded rows folds no max pool";
  if (int64_t(std::min(c.s.stride_h, c.s.H)) * std::min(c.s.stride_w, c.s.W) > kMostPhases)
    return "the scheme of padded rows makes one convolution for each pixel modulo the stride, of which there are too many";
  return "";
}

// The products, copying the band, finishing the outputs, and packing the weights, which every row of outputs reads again.
double cost(const Conv& c) {
  const double lines = double(c.s.N) * c.s.OH, weights = double(c.s.KH) * c.s.KW * c.s.C_in * c.s.C_out;
  const double reading = 4 * weights <= kGradientBytes ? 2 : 16;
  return lines * c.s.OW * (double(c.s.KH) * c.s.KW * c.s.C_in * panel_columns(c.s.C_out) + 12.0 * (c.s.C_in + c.s.C_out)) +
         weights * (48 + reading * lines);
}

}  // namespace

const Algorithm kRows = {"rows", why_not, cost, forward, backward};

}  // namespace warploom::cpu
