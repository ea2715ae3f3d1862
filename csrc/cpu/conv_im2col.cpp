// conv_im2col.cpp - the convolution that takes every shape: rows of patches times weights, a chunk of rows at a time.
//
// Forward: a task gathers some hundred rows of patches into a blocked matrix that stays in its cache, multiplies, and finishes
// them (bias, activation, pool). The gradient of the input is the same thing again: pixels of dx with equal position modulo the
// stride see the same taps, so each such phase is a stride-one convolution of dy with some of the weights; nothing is scattered.
// The gradient of the weights gathers the patches once more and multiplies them, transposed, with dy; long sums are cut into a
// fixed number of parts. Images pass in chunks, so that the workspace is bounded.
#include <optional>

#include "conv.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kRowsBytes = 384 << 10;    // of a gathered chunk: within the second-level cache
constexpr int64_t kPatchBytes = 4 << 20;     // of a gathered chunk for the gradient of the weights
constexpr int64_t kGradientBytes = 8 << 20;  // of the expanded gradient

int64_t rows_at_once(int64_t depth, int64_t unit) {
  const int64_t rows = std::clamp<int64_t>(kRowsBytes / (std::max<int64_t>(depth, 1) * 4), 28, 224);
  return std::max<int64_t>(unit, rows / (unit == 1 ? 14 : unit) * (unit == 1 ? 14 : unit));
}

Gather forward_gather(const Conv& c, int group) {
  Gather g;
  g.source = c.x ? c.x + group * c.cg() : nullptr;
  g.H = c.XH(), g.W = c.XW(), g.up = c.f.upsample;
  g.pixel = c.s.C_in, g.channels = c.cg();
  g.grid_h = c.s.OH, g.grid_w = c.s.OW, g.step_h = c.s.stride_h, g.step_w = c.s.stride_w;
  for (int kh = 0; kh < c.s.KH; ++kh)
    for (int kw = 0; kw < c.s.KW; ++kw) g.dh.push_back(kh - c.s.pad_top), g.dw.push_back(kw - c.s.pad_left);
  return g;
}

// A 1x1 convolution's patches are the activations themselves.
bool needs_no_gather(const Conv& c) {
  const auto& s = c.s;
  return s.KH == 1 && s.KW == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 0 && s.pad_left == 0 && s.OH == s.H &&
         s.OW == s.W && c.f.upsample == 1 && c.f.pool == 1;
}

void forward(const Conv& c, Carver& ws, bool run) {
  const int64_t K = int64_t(c.s.KH) * c.s.KW * c.cg(), N = c.ng();
  const int groups = c.s.groups;
  const int unit = c.f.pool * c.f.pool;
  const int64_t rows = rows_at_once(K, unit), K16 = round_up(K, kBlock), N16 = round_up(N, kBlock);
  float* packed = ws.take(groups * packed_size(K, N));
  float* scratch = ws.take(thread_count() * rows * (K16 + N16));
  if (!run) return;
  const int64_t panels = ceil_div(N, kPanel);
  if (groups == 1)
    pack_rows(c.w, K, N, packed);
  else
    parallel(groups * panels, [&](int64_t task, int) {
      const int64_t g = task / panels;
      pack_panel(c.w + g * N, c.s.C_out, 1, K, 0, K, N, task % panels, packed + g * packed_size(K, N));
    });
  std::vector<Gather> gathers;
  for (int g = 0; g < groups; ++g) gathers.push_back(forward_gather(c, g)), gathers.back().pool = c.f.pool;
  const int64_t all = c.s.N * gathers[0].rows_per_image();
  const bool direct = needs_no_gather(c);
  parallel_blocks(all, rows, [&](int64_t begin, int64_t end, int worker) {
    float* patches = scratch + worker * rows * (K16 + N16);
    const MutableView result = blocked(patches + rows * K16, rows);
    for (int g = 0; g < groups; ++g) {
      View A = blocked(static_cast<const float*>(patches), rows);
      if (direct)
        A = {c.x + begin * c.s.C_in + g * c.cg(), c.s.C_in, kBlock};
      else
        gather_rows(gathers[static_cast<size_t>(g)], begin, end - begin, patches, rows * kBlock);
      multiply(0, end - begin, K, N, A, packed + g * packed_size(K, N), result, false);
      finish_rows(c, result, begin / unit, (end - begin) / unit, static_cast<int>(g * N), static_cast<int>(N));
    }
  });
}

// ---- Backward ----

struct Phase {  // pixels (first_h + i * stride_h, first_w + j * stride_w) of the convolution's input
  int first_h, first_w;
  std::vector<int> taps;
  Gather gather;
  int64_t packed_at;  // where its weights begin
};

std::vector<Phase> phases_of(const Conv& c) {
  std::vector<Phase> phases;
  const auto& s = c.s;
  int64_t at = 0;
  for (int a = 0; a < std::min(s.stride_h, s.H); ++a)
    for (int b = 0; b < std::min(s.stride_w, s.W); ++b) {
      Phase p;
      p.first_h = a, p.first_w = b, p.packed_at = at;
      Gather& g = p.gather;
      g.H = s.OH, g.W = s.OW, g.pixel = s.C_out, g.channels = c.ng();
      g.grid_h = static_cast<int>(ceil_div(s.H - a, s.stride_h)), g.grid_w = static_cast<int>(ceil_div(s.W - b, s.stride_w));
      for (int kh = 0; kh < s.KH; ++kh)
        for (int kw = 0; kw < s.KW; ++kw) {
          const int h = a + s.pad_top - kh, w = b + s.pad_left - kw;
          if (h % s.stride_h != 0 || w % s.stride_w != 0) continue;
          p.taps.push_back(kh * s.KW + kw);
          g.dh.push_back(h / s.stride_h), g.dw.push_back(w / s.stride_w);
        }
      at += s.groups * packed_size(g.depth(), c.cg());
      phases.push_back(std::move(p));
    }
  return phases;
}

class InputGradient {
 public:
  InputGradient(const Conv& c, Carver& ws) : c_(c), phases_(phases_of(c)) {
    int64_t depth = 0;
    for (const auto& p : phases_) depth = std::max(depth, p.gather.depth());
    rows_ = rows_at_once(depth, 1);
    scratch_each_ = rows_ * (round_up(depth, kBlock) + round_up(c.cg(), kBlock));
    packed_ = ws.take(phases_.back().packed_at + c.s.groups * packed_size(phases_.back().gather.depth(), c.cg()));
    scratch_ = ws.take(thread_count() * scratch_each_);
  }
  void pack() {
    const int64_t C = c_.cg(), N = c_.ng(), panels = ceil_div(C, kPanel), groups = c_.s.groups;
    for (const auto& p : phases_)
      parallel(groups * panels, [&](int64_t task, int) {
        const int64_t g = task / panels, K = p.gather.depth();
        float* packed = packed_ + p.packed_at + g * packed_size(K, C);
        for (size_t t = 0; t < p.taps.size(); ++t)
          pack_panel(c_.w + p.taps[t] * C * c_.s.C_out + g * N, 1, c_.s.C_out, K, static_cast<int64_t>(t) * N, N, C,
                     task % panels, packed);
      });
  }
  // For images n0..n1, whose gradients start at dz. With a folded upsample, dx_full is a scratch image row in the input's full
  // size.
  void run(int64_t n0, int64_t n1, const float* dz, float* dx) {
    const auto& s = c_.s;
    const int64_t C = c_.cg(), N = c_.ng();
    for (const auto& p : phases_) {
      const int64_t K = p.gather.depth(), per_image = p.gather.rows_per_image();
      parallel_blocks((n1 - n0) * per_image, rows_, [&](int64_t begin, int64_t end, int worker) {
        float* patches = scratch_ + worker * scratch_each_;
        const MutableView result = blocked(patches + rows_ * round_up(K, kBlock), rows_);
        for (int g = 0; g < s.groups; ++g) {
          Gather gather = p.gather;
          gather.source = dz + g * N;
          gather_rows(gather, begin, end - begin, patches, rows_ * kBlock);
          multiply(0, end - begin, K, C, blocked(static_cast<const float*>(patches), rows_),
                   packed_ + p.packed_at + g * packed_size(K, C), result, false);
          for (int64_t r = begin; r < end; ++r) {
            const int64_t n = r / per_image, at = r % per_image;
            const int64_t h = p.first_h + at / gather.grid_w * s.stride_h, w = p.first_w + at % gather.grid_w * s.stride_w;
            float* to = dx + ((n * s.H + h) * s.W + w) * s.C_in + g * C;
            for (int64_t k = 0; k < C; k += kWidth)
              store_part(to + k, load(result.at(r - begin, k)), static_cast<int>(std::min<int64_t>(kWidth, C - k)));
          }
        }
      });
    }
  }

 private:
  const Conv& c_;
  std::vector<Phase> phases_;
  int64_t rows_, scratch_each_;
  float *packed_, *scratch_;
};

class WeightGradient {
 public:
  WeightGradient(const Conv& c, Carver& ws, int64_t images)
      : c_(c), K_(int64_t(c.s.KH) * c.s.KW * c.cg()), K16_(round_up(K_, kBlock)), N16_(round_up(c.ng(), kBlock)) {
    const int64_t rows = images * c.s.OH * c.s.OW;
    chunk_ = std::clamp<int64_t>(round_up(kPatchBytes / ((K16_ + N16_) * 4), kStrip), kStrip,
                                 round_up(std::max<int64_t>(rows, 1), kStrip));
    parts_ = std::clamp<int64_t>((int64_t(1) << 18) / (K16_ * N16_), 1, std::min<int64_t>(16, chunk_ / kStrip));
    patches_ = ws.take(chunk_ * K16_);
    gradients_ = ws.take(chunk_ * N16_);
    sums_ = ws.take(c.s.groups * parts_ * K16_ * N16_);
  }
  void run(int64_t n0, int64_t n1, const float* dz, bool first) {
    const int64_t per_image = int64_t(c_.s.OH) * c_.s.OW, all = (n1 - n0) * per_image;
    Gather gradient;  // dz itself, in blocks
    gradient.H = c_.s.OH, gradient.W = c_.s.OW, gradient.pixel = c_.s.C_out, gradient.channels = c_.ng();
    gradient.grid_h = c_.s.OH, gradient.grid_w = c_.s.OW, gradient.dh = {0}, gradient.dw = {0};
    for (int g = 0; g < c_.s.groups; ++g) {
      Gather patches = forward_gather(c_, g);
      gradient.source = dz + g * c_.ng();
      for (int64_t begin = 0; begin < all; begin += chunk_) {
        const int64_t rows = std::min(chunk_, all - begin);
        parallel_blocks(rows, kStrip, [&](int64_t r0, int64_t r1, int) {
          gather_rows(patches, n0 * per_image + begin + r0, r1 - r0, patches_ + r0 * kBlock, chunk_ * kBlock);
          gather_rows(gradient, begin + r0, r1 - r0, gradients_ + r0 * kBlock, chunk_ * kBlock);
        });
        const int64_t k_step = std::max<int64_t>(kBlock, round_up(K16_ / 32, kBlock)), k_tasks = ceil_div(K16_, k_step);
        const bool add = !(first && begin == 0);
        parallel(parts_ * k_tasks, [&](int64_t task, int) {
          const int64_t part = task / k_tasks, k0 = task % k_tasks * k_step;
          float* sum = sums_ + (g * parts_ + part) * K16_ * N16_;
          const int64_t share = round_up(ceil_div(rows, parts_), kStrip), t0 = std::min(rows, part * share);
          multiply_transposed(t0, std::min(rows, t0 + share), k0, std::min(K16_, k0 + k_step), N16_,
                              blocked(static_cast<const float*>(patches_), chunk_),
                              blocked(static_cast<const float*>(gradients_), chunk_), {sum, N16_, kBlock}, add);
        });
      }
    }
  }
  void finish() {
    const int64_t N = c_.ng();
    parallel_blocks(c_.s.groups * K_, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t g = i / K_, k = i % K_;
        sum_parts(sums_ + g * parts_ * K16_ * N16_ + k * N16_, parts_, K16_ * N16_, c_.dw + k * c_.s.C_out + g * N, N);
      }
    });
  }

 private:
  static constexpr int64_t kStrip = 64;
  const Conv& c_;
  int64_t K_, K16_, N16_, chunk_, parts_;
  float *patches_, *gradients_, *sums_;
};

// dx of the small image: every one of its pixels was up x up pixels of the convolution's input.
void fold_upsample(const Conv& c, int64_t images, const float* full, float* dx) {
  const int up = c.f.upsample, XH = c.XH(), XW = c.XW(), C = c.s.C_in;
  parallel(images * XH, [&](int64_t task, int) {
    const int64_t n = task / XH, h = task % XH;
    for (int w = 0; w < XW; ++w)
      for (int k = 0; k < C; k += kWidth) {
        const int part = std::min(kWidth, C - k);
        vf total{};
        for (int a = 0; a < up; ++a)
          for (int b = 0; b < up; ++b) total += load_part(full + ((n * c.s.H + h * up + a) * c.s.W + w * up + b) * C + k, part);
        store_part(dx + (task * XW + w) * C + k, total, part);
      }
  });
}

void backward(const Conv& c, Carver& ws, bool run) {
  const auto& s = c.s;
  const int64_t y_image = int64_t(s.OH) * s.OW * s.C_out, x_image = int64_t(s.H) * s.W * s.C_in;
  const int64_t small_image = int64_t(c.XH()) * c.XW() * s.C_in;
  const bool expand = !c.plain_gradient(), fold = c.f.upsample > 1 && c.want_dx;
  int64_t images = s.N;
  if (expand || fold)
    images = std::clamp<int64_t>(kGradientBytes / (4 * std::max<int64_t>(1, std::max(y_image, fold ? x_image : 0))), 1, s.N);
  float* dz = expand ? ws.take(images * y_image) : nullptr;
  float* full = fold ? ws.take(images * x_image) : nullptr;
  if (c.want_db) bias_gradient(c, ws, run);
  // The two gradients take turns, so they share what is left of the workspace only in name: both are small beside the
  // activations.
  std::optional<InputGradient> input;
  std::optional<WeightGradient> weight;
  if (c.want_dx) input.emplace(c, ws);
  if (c.want_dw) weight.emplace(c, ws, images);
  if (!run) return;
  if (c.want_dx) input->pack();
  for (int64_t n0 = 0; n0 < s.N; n0 += images) {
    const int64_t n1 = std::min<int64_t>(s.N, n0 + images);
    const float* gradient = c.dy ? c.dy + n0 * y_image : nullptr;
    if (expand) expand_gradient(c, n0, n1, dz), gradient = dz;
    if (c.want_dw) weight->run(n0, n1, gradient, n0 == 0);
    if (!c.want_dx) continue;
    if (fold)
      input->run(n0, n1, gradient, full), fold_upsample(c, n1 - n0, full, c.dx + n0 * small_image);
    else
      input->run(n0, n1, gradient, c.dx + n0 * x_image);
  }
  if (c.want_dw) weight->finish();
}

std::string why_not(const Conv& c) {
  if (c.f.pool > 15) return "a folded max pool larger than 15 is not supported: its argmax is one byte";
  return "";
}
// The products, and the time of gathering every row of patches, of finishing it, and of packing the weights.
double cost(const Conv& c) {
  const double rows = double(c.s.N) * c.s.OH * c.s.OW, depth = double(c.s.KH) * c.s.KW * c.cg() * c.s.groups;
  const double taps = double(c.s.KH) * c.s.KW * c.s.groups;
  return rows * (depth * (panel_columns(c.ng()) + 12) + 40 * taps + 12.0 * c.s.C_out) + 48 * depth * c.ng();
}

}  // namespace

const Algorithm kIm2col = {"im2col", why_not, cost, forward, backward};

}  // namespace warploom::cpu
