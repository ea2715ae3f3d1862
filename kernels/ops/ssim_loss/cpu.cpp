// ssim_loss on the host; the mathematics are kernels.cu's: moments about the centre, e = p - t in place of t.
//
// Rows are W * step floats, step = 1 (NCHW) or C (NHWC). Phase 1, a task a band of window positions in a strip of kStrip columns:
// every input row is filtered along itself into a ring of `window` rows, which stays in the cache while the windows across it are
// finished; the three slope maps go to the workspace. Phase 2, a task a band of image rows: the adjoint across rows into three
// rows with zeros on either side, then along them. Planes come in chunks, so that the maps stay small. Partial sums per task and
// in order: the same bits for any number of threads.
#include <cmath>

#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kStrip = 128, kBand = 16;

struct Ssim {
  const SsimLoss& a;
  int64_t step, planes, H, OH, row, out_row, window;
  int64_t band, bands, strips;  // phase 1
  int64_t margin, padded;       // phase 2: zeros before a row; its length with zeros
  int64_t per_chunk, scratch_each;
  double* partial;
  float *g, *slopes, *scratch;
  int64_t bytes;

  Ssim(const SsimLoss& args, const InOut& workspace) : a(args), H(args.H), window(args.window) {
    const bool nchw = a.layout == Layout::nchw;
    step = nchw ? 1 : a.C, planes = nchw ? a.N * a.C : a.N;
    OH = H - window + 1, row = a.W * step, out_row = (a.W - window + 1) * step;
    band = std::max<int64_t>(32, 2 * window), bands = ceil_div(OH, band), strips = ceil_div(out_row, kStrip);
    margin = (window - 1) * step, padded = out_row + 2 * margin + 16;
    per_chunk = std::max<int64_t>(1, std::min(planes, (int64_t(1) << 20) / (3 * OH * out_row)));
    scratch_each = round_up(std::max(5 * window * kStrip, 3 * padded), 32);
    Carver carver = workspace ? Carver(workspace) : Carver();
    partial = carver.take<double>(planes * bands * strips);
    g = carver.take(window);
    slopes = carver.take(3 * per_chunk * OH * out_row);
    scratch = carver.take(thread_count() * scratch_each);
    bytes = carver.used();
  }

  void make_window() const {
    double sum = 0.0;
    const auto bell = [&](int64_t i) {
      const double distance = static_cast<double>(i) - 0.5 * static_cast<double>(window - 1), s = a.sigma;
      return std::exp(-distance * distance / (2.0 * s * s));
    };
    for (int64_t i = 0; i < window; ++i) sum += bell(i);
    for (int64_t i = 0; i < window; ++i) {
      const double weight = bell(i) / sum;
      g[i] = weight < 1e-30 ? 0.0f : static_cast<float>(weight);  // denormal factors are slow and change nothing
    }
  }

  // Along a row: weighted means of p and e, variances of p, t and e, of `width` columns; out is [5][kStrip].
  void filter_row(const float* p, const float* t, int64_t width, float* out) const {
    const int64_t centre = window / 2 * step;
    for (int64_t j = 0; j < width; j += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, width - j));
      const vf p0 = load_part(p + j + centre, n), t0 = load_part(t + j + centre, n);
      vf mp{}, me{}, pp{}, tt{}, ee{};
      for (int64_t i = 0; i < window; ++i) {
        const vf dp = load_part(p + j + i * step, n) - p0, dt = load_part(t + j + i * step, n) - t0, de = dp - dt;
        const vf gp = g[i] * dp, gt = g[i] * dt, ge = g[i] * de;
        mp += gp, me += ge;
        pp += gp * dp, tt += gt * dt, ee += ge * de;
      }
      const vf mt = mp - me;
      store(out + j, p0 + mp), store(out + kStrip + j, (p0 - t0) + me);
      store(out + 2 * kStrip + j, pp - mp * mp), store(out + 3 * kStrip + j, tt - mt * mt);
      store(out + 4 * kStrip + j, ee - me * me);
    }
  }

  // Across the ring's rows, the first of which is in slot `first`: `width` window positions; to: slope maps, or null.
  void finish_row(const float* ring, int64_t first, int64_t width, float* to, int64_t map, vd (&lanes)[kSumVectors]) const {
    const float* centre = ring + (first + window / 2) % window * 5 * kStrip;
    for (int64_t j = 0; j < width; j += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, width - j));
      const vf p0 = load(centre + j), e0 = load(centre + kStrip + j);
      vf mp{}, me{}, pp{}, tt{}, ee{};
      const float* at = ring + first * 5 * kStrip + j;
      for (int64_t i = 0; i < window; ++i) {
        const vf dp = load(at) - p0, de = load(at + kStrip) - e0, dt = dp - de;
        const float weight = g[i];
        const vf gp = weight * dp, ge = weight * de;
        mp += gp, me += ge;
        pp += weight * load(at + 2 * kStrip) + gp * dp;
        tt += weight * load(at + 3 * kStrip) + weight * dt * dt;
        ee += weight * load(at + 4 * kStrip) + ge * de;
        at += 5 * kStrip;
        if (first + i + 1 == window) at = ring + j;
      }
      const vf mt0 = mp - me;
      pp -= mp * mp, tt -= mt0 * mt0, ee -= me * me;
      mp += p0, me += e0;
      const vf mt = mp - me, b1 = mp * mp + mt * mt + a.c1, b2 = pp + tt + a.c2;
      const vf u = me * me / b1, v = ee / b2, f = u + v - u * v;
      vd& sum = lanes[j / kWidth % kSumVectors];
      vd wide;
      widen(f, wide);
      if (n == kWidth)
        sum += wide;
      else
        for (int k = 0; k < n; ++k) sum[k] += wide[k];
      if (!to) continue;
      const vf kappa = 2.0f * (1.0f - u) / b2, lambda = kappa * v;
      store_part(to + j, 2.0f * (1.0f - v) * (me - u * mp) / b1 - kappa * me + lambda * mp, n);
      store_part(to + map + j, kappa, n), store_part(to + 2 * map + j, lambda, n);
    }
  }

  void phase1(int64_t first_plane, int64_t some) const {
    const int64_t map = per_chunk * OH * out_row;
    parallel(some * bands * strips, [&](int64_t task, int worker) {
      const int64_t plane = task / (bands * strips), y0 = task / strips % bands * band, x0 = task % strips * kStrip;
      const int64_t y1 = std::min(y0 + band, OH), width = std::min(kStrip, out_row - x0);
      const int64_t from = (first_plane + plane) * H * row + x0;
      float* ring = scratch + worker * scratch_each;
      vd lanes[kSumVectors] = {};
      for (int64_t y = y0; y < y1 + window - 1; ++y) {
        const int64_t slot = (y - y0) % window;
        filter_row(a.prediction.ptr() + from + y * row, a.target.ptr() + from + y * row, width, ring + slot * 5 * kStrip);
        const int64_t done = y - window + 1;  // the window position that this row completes
        if (done < y0) continue;
        float* to = a.grad ? slopes + (plane * OH + done) * out_row + x0 : nullptr;
        finish_row(ring, (slot + 1) % window, width, to, map, lanes);
      }
      partial[first_plane * bands * strips + task] = add_lanes(lanes);
    });
  }

  void phase2(int64_t first_plane, int64_t some, float scale) const {
    const int64_t map = per_chunk * OH * out_row, row_bands = ceil_div(H, kBand);
    parallel(some * row_bands, [&](int64_t task, int worker) {
      const int64_t plane = task / row_bands, y0 = task % row_bands * kBand;
      float* rows = scratch + worker * scratch_each;
      for (int64_t k = 0; k < 3 * padded; ++k) rows[k] = 0.0f;
      for (int64_t y = y0; y < std::min(y0 + kBand, H); ++y) {
        const int64_t i0 = std::max<int64_t>(0, y - OH + 1), i1 = std::min(window - 1, y);
        for (int64_t j = 0; j < out_row; j += kWidth) {
          const int n = static_cast<int>(std::min<int64_t>(kWidth, out_row - j));
          vf sum0{}, sum1{}, sum2{};
          for (int64_t i = i0; i <= i1; ++i) {
            const float* at = slopes + (plane * OH + y - i) * out_row + j;
            sum0 += g[i] * load_part(at, n), sum1 += g[i] * load_part(at + map, n), sum2 += g[i] * load_part(at + 2 * map, n);
          }
          float* to = rows + margin + j;
          store_part(to, sum0, n), store_part(to + padded, sum1, n), store_part(to + 2 * padded, sum2, n);
        }
        const int64_t from = ((first_plane + plane) * H + y) * row;
        const float *p = a.prediction.ptr() + from, *t = a.target.ptr() + from;
        for (int64_t j = 0; j < row; j += kWidth) {
          const int n = static_cast<int>(std::min<int64_t>(kWidth, row - j));
          vf sum0{}, sum1{}, sum2{};
          for (int64_t i = 0; i < window; ++i) {
            const float* at = rows + margin + j - i * step;
            sum0 += g[i] * load(at), sum1 += g[i] * load(at + padded), sum2 += g[i] * load(at + 2 * padded);
          }
          const vf pj = load_part(p + j, n), tj = load_part(t + j, n);
          store_part(a.grad.ptr() + from + j, scale * (sum0 + (pj - tj) * sum1 - pj * sum2), n);
        }
      }
    });
  }
};

void run(const SsimLoss& a, const Context& context) {
  const Ssim ssim(a, context.workspace);
  ssim.make_window();
  const int64_t positions = ssim.planes * ssim.OH * ssim.out_row, tasks = ssim.planes * ssim.bands * ssim.strips;
  for (int64_t plane = 0; plane < ssim.planes; plane += ssim.per_chunk) {
    const int64_t some = std::min(ssim.per_chunk, ssim.planes - plane);
    ssim.phase1(plane, some);
    if (a.grad) ssim.phase2(plane, some, static_cast<float>(a.weight / static_cast<double>(positions)));
  }
  double sum = 0.0;
  for (int64_t t = 0; t < tasks; ++t) sum += ssim.partial[t];
  store_loss(a, sum / static_cast<double>(positions));
}

int64_t workspace_bytes(const SsimLoss& a) { return Ssim(a, InOut()).bytes; }

std::string why_not(const SsimLoss& a) {
  if (a.N < 1 || a.C < 1 || a.H < 1 || a.W < 1) return "the mean over no pixels is undefined; N, C, H and W must be positive";
  if (a.window < 1 || a.window > a.H || a.window > a.W)
    return "the window (" + std::to_string(a.window) + ") must be at least 1 and at most the image's height and width (" +
           std::to_string(a.H) + "x" + std::to_string(a.W) + ")";
  if (!(a.sigma > 0.0f)) return "sigma must be positive";
  return "";
}

}  // namespace

Entry<SsimLoss> ssim_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::cpu
