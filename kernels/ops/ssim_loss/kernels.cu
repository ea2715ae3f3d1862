// ssim_loss: value = mean of f = 1 - SSIM over window positions; with e = p - t, u = me^2 / (mp^2 + mt^2 + c1) and
//   v = var e / (var p + var t + c2): SSIM = (1 - u)(1 - v), f = u + v - u v. Means m and variances are weighted by a Gaussian.
// Layout: rows of W * step floats, step = 1 (NCHW, planes = N * C) or C (NHWC, planes = N): both are the same two passes along
//   and across rows. One block owns 32 columns x 8 rows of outputs, one thread one output; the taps of neighbours meet in L1.
// Shared by all versions. Separable, through maps in the workspace rather than through a tile in shared memory, as a window of
//   any size and channels side by side must fit; planes are taken in chunks whose maps stay near the L2 cache. Moments are taken
//   about the window's centre and merged as variances, e in place of t: no difference of large numbers, also for p close to t.
//   Expected bottleneck: loads from L1 (2 or 5 per tap).
// Preconditions: 1 <= window <= H, W; one image below 2^31 elements; workspace. Same inputs, same bits.
#include "kernels/common/flat.cuh"
#include "kernels/common/preconditions.h"
#include "kernels/ops/shared.h"

namespace warploom::shared {

constexpr int kTileColumns = 32, kTileRows = kFlatThreads / kTileColumns;

struct SsimShape {
  int H, OH;               // rows of a plane; window positions below each other
  int row, out_row, step;  // floats of a row; of the row of window positions; between horizontal neighbours
  int window;
  float c1, c2;
};

// body(row, column) for the elements of this thread; rows are those of all planes of a launch.
template <class Body>
__device__ __forceinline__ void for_tile(int64_t rows, int columns, Body body) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kTileColumns + threadIdx.x % kTileColumns;
  if (column >= columns) return;
  for (int64_t r = static_cast<int64_t>(blockIdx.y) * kTileRows + threadIdx.x / kTileColumns; r < rows;
       r += static_cast<int64_t>(gridDim.y) * kTileRows)
    body(r, static_cast<int>(column));
}

__global__ void ssim_window_kernel(int window, float sigma, float* __restrict__ g) {  // [window]
  WL_SHARED(double, whole, [1]);
  const auto bell = [=](int i) {
    const double distance = i - 0.5 * (window - 1), s = static_cast<double>(sigma);
    return exp(-distance * distance / (2.0 * s * s));
  };
  double sum = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < window; i += kFlatThreads) sum += bell(i);
  sum = block_sum<kFlatThreads>(sum);
  if (threadIdx.x == 0) whole[0] = sum;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < window; i += kFlatThreads) g[i] = static_cast<float>(bell(i) / whole[0]);
}

// Along a row: the weighted means of p and e and the variances of p, t and e.
__global__ void ssim_rows_kernel(SsimShape s, int64_t rows, const float* __restrict__ g,  // [window]
                                 const float* __restrict__ prediction,                    // [planes, H, row]
                                 const float* __restrict__ target,                        // [planes, H, row]
                                 float* __restrict__ maps) {                              // [5][planes, H, out_row]
  const int64_t map = rows * s.out_row;
  for_tile(rows, s.out_row, [&](int64_t r, int column) {
    const float* p = prediction + r * s.row + column;
    const float* t = target + r * s.row + column;
    const int centre = s.window / 2 * s.step;
    const float p0 = p[centre], t0 = t[centre];
    float mp = 0.0f, me = 0.0f, pp = 0.0f, tt = 0.0f, ee = 0.0f;
    for (int i = 0; i < s.window; ++i) {
      const float dp = p[i * s.step] - p0, dt = t[i * s.step] - t0, de = dp - dt, weight = g[i];
      const float gp = weight * dp, ge = weight * de;
      mp += gp, me += ge;
      pp += gp * dp, tt += weight * dt * dt, ee += ge * de;
    }
    const float mt = mp - me;
    float* out = maps + r * s.out_row + column;
    out[0] = p0 + mp, out[map] = (p0 - t0) + me;
    out[2 * map] = pp - mp * mp, out[3 * map] = tt - mt * mt, out[4 * map] = ee - me * me;
  });
}

// Across rows: whole windows, 1 - SSIM and what the gradient needs of it: grad_j = sum over windows of g (alpha + kappa e_j -
// lambda p_j).
__global__ void ssim_columns_kernel(SsimShape s, int64_t rows, int64_t planes, const float* __restrict__ g,  // [window]
                                    const float* __restrict__ maps,  // [5][planes, H, out_row]
                                    float* __restrict__ slopes,      // [3][planes, OH, out_row] or null
                                    double* __restrict__ partial) {  // [gridDim.y * gridDim.x]
  const int64_t map = planes * s.H * s.out_row, slope_map = rows * s.out_row;
  double sum[1] = {0.0};
  for_tile(rows, s.out_row, [&](int64_t r, int column) {
    const int64_t plane = r / s.OH;
    const float* at = maps + (plane * s.H + (r - plane * s.OH)) * s.out_row + column;
    const int64_t centre = static_cast<int64_t>(s.window / 2) * s.out_row;
    const float p0 = at[centre], e0 = at[map + centre];
    float mp = 0.0f, me = 0.0f, pp = 0.0f, tt = 0.0f, ee = 0.0f;
    for (int i = 0; i < s.window; ++i) {
      const int64_t o = static_cast<int64_t>(i) * s.out_row;
      const float dp = at[o] - p0, de = at[map + o] - e0, dt = dp - de, weight = g[i];
      const float gp = weight * dp, ge = weight * de;
      mp += gp, me += ge;
      pp += weight * at[2 * map + o] + gp * dp;
      tt += weight * at[3 * map + o] + weight * dt * dt;
      ee += weight * at[4 * map + o] + ge * de;
    }
    const float dt = mp - me;
    pp -= mp * mp, tt -= dt * dt, ee -= me * me;
    mp += p0, me += e0;
    const float mt = mp - me;
    const float b1 = mp * mp + mt * mt + s.c1, b2 = pp + tt + s.c2;
    const float u = me * me / b1, v = ee / b2;
    sum[0] += static_cast<double>(u + v - u * v);
    if (!slopes) return;
    const float kappa = 2.0f * (1.0f - u) / b2, lambda = kappa * v;
    float* out = slopes + r * s.out_row + column;
    out[0] = 2.0f * (1.0f - v) * (me - u * mp) / b1 - kappa * me + lambda * mp;
    out[slope_map] = kappa, out[2 * slope_map] = lambda;
  });
  store_block_sums<1>(sum, static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x, partial);
}

// The adjoint across rows: what reaches a row from the windows that hold it.
__global__ void ssim_columns_adjoint_kernel(SsimShape s, int64_t rows, const float* __restrict__ g,  // [window]
                                            const float* __restrict__ slopes,                        // [3][planes, OH, out_row]
                                            float* __restrict__ maps) {                              // [3][planes, H, out_row]
  const int64_t map = rows * s.out_row, slope_map = rows / s.H * s.OH * s.out_row;
  for_tile(rows, s.out_row, [&](int64_t r, int column) {
    const int64_t plane = r / s.H;
    const int y = static_cast<int>(r - plane * s.H), last = min(s.window - 1, y);
    float sum0 = 0.0f, sum1 = 0.0f, sum2 = 0.0f;
    for (int i = max(0, y - s.OH + 1); i <= last; ++i) {
      const float* at = slopes + (plane * s.OH + (y - i)) * s.out_row + column;
      sum0 += g[i] * at[0], sum1 += g[i] * at[slope_map], sum2 += g[i] * at[2 * slope_map];
    }
    float* out = maps + r * s.out_row + column;
    out[0] = sum0, out[map] = sum1, out[2 * map] = sum2;
  });
}

// The adjoint along a row, and the gradient.
__global__ void ssim_rows_adjoint_kernel(SsimShape s, int64_t rows, float scale, const float* __restrict__ g,  // [window]
                                         const float* __restrict__ maps,        // [3][planes, H, out_row]
                                         const float* __restrict__ prediction,  // [planes, H, row]
                                         const float* __restrict__ target,      // [planes, H, row]
                                         float* __restrict__ grad) {            // [planes, H, row]
  const int64_t map = rows * s.out_row;
  for_tile(rows, s.row, [&](int64_t r, int column) {
    const int x = column / s.step, last = min(s.window - 1, x);
    float sum0 = 0.0f, sum1 = 0.0f, sum2 = 0.0f;
    for (int i = max(0, x - s.out_row / s.step + 1); i <= last; ++i) {
      const float* at = maps + r * s.out_row + (column - i * s.step);
      sum0 += g[i] * at[0], sum1 += g[i] * at[map], sum2 += g[i] * at[2 * map];
    }
    const float p = prediction[r * s.row + column], t = target[r * s.row + column];
    grad[r * s.row + column] = scale * (sum0 + (p - t) * sum1 - p * sum2);
  });
}

__global__ void ssim_finish_kernel(int64_t blocks, int64_t positions, LossOutput out,
                                   const double* __restrict__ partial) {  // [blocks]
  double sum[1];
  add_block_sums<1>(sum, blocks, partial);
  if (threadIdx.x == 0) out.store(sum[0] / static_cast<double>(positions));
}

inline namespace ssim_kernels {

// How the planes are cut into chunks and where the workspace's parts lie, in floats.
struct SsimPlan {
  SsimShape s;
  int64_t planes, per_chunk, chunks, blocks;
  int64_t g_at, maps_at, slopes_at, floats;

  explicit SsimPlan(const SsimLoss& a) {
    const bool nchw = a.layout == Layout::nchw;
    const int64_t step = nchw ? 1 : a.C;
    s = {static_cast<int>(a.H),
         static_cast<int>(a.H - a.window + 1),
         static_cast<int>(a.W * step),
         static_cast<int>((a.W - a.window + 1) * step),
         static_cast<int>(step),
         a.window,
         a.c1,
         a.c2};
    planes = nchw ? a.N * a.C : a.N;
    const int64_t map = static_cast<int64_t>(s.H) * s.out_row, slope = static_cast<int64_t>(s.OH) * s.out_row;
    constexpr int64_t kChunkFloats = int64_t(8) << 20;  // 32 MiB
    per_chunk = std::max<int64_t>(1, std::min(planes, kChunkFloats / (5 * map + 3 * slope)));
    chunks = (planes + per_chunk - 1) / per_chunk;
    blocks = (chunks - 1) * sum_blocks(per_chunk) + sum_blocks(planes - (chunks - 1) * per_chunk);
    g_at = (2 * blocks + 63) / 64 * 64;
    maps_at = g_at + (s.window + 63) / 64 * 64;
    slopes_at = maps_at + per_chunk * 5 * map;
    floats = slopes_at + per_chunk * 3 * slope;
  }
  static dim3 grid(int64_t rows, int columns) {
    return dim3(blocks_for(columns, kTileColumns),
                static_cast<unsigned>(std::min<int64_t>((rows + kTileRows - 1) / kTileRows, 512)));
  }
  int64_t sum_blocks(int64_t some_planes) const {
    const dim3 g = grid(some_planes * s.OH, s.out_row);
    return static_cast<int64_t>(g.x) * g.y;
  }
};

int64_t workspace_bytes(const SsimLoss& a) { return 4 * SsimPlan(a).floats; }

void run(const SsimLoss& a, const Context& context) {
  const SsimPlan plan(a);
  const SsimShape& s = plan.s;
  double* partial = context.workspace.ptr<double>();
  float* base = context.workspace.ptr();
  float *g = base + plan.g_at, *maps = base + plan.maps_at, *slopes = a.grad ? base + plan.slopes_at : nullptr;
  const int64_t positions = plan.planes * s.OH * s.out_row;
  const float scale = static_cast<float>(a.weight / static_cast<double>(positions));
  const dim3 block(kFlatThreads);
  launch(context, "ssim_window_kernel", ssim_window_kernel, dim3(1), block, 0, a.window, a.sigma, g);
  for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) {
    const int64_t first = chunk * plan.per_chunk, planes = std::min(plan.per_chunk, plan.planes - first);
    const int64_t rows = planes * s.H, positions_below = planes * s.OH, offset = first * s.H * s.row;
    const float *p = a.prediction.ptr() + offset, *t = a.target.ptr() + offset;
    launch(context, "ssim_rows_kernel", ssim_rows_kernel, SsimPlan::grid(rows, s.out_row), block, 0, s, rows, g, p, t, maps);
    launch(context, "ssim_columns_kernel", ssim_columns_kernel, SsimPlan::grid(positions_below, s.out_row), block, 0, s,
           positions_below, planes, g, maps, slopes, partial + chunk * plan.sum_blocks(plan.per_chunk));
    if (!a.grad) continue;
    launch(context, "ssim_columns_adjoint_kernel", ssim_columns_adjoint_kernel, SsimPlan::grid(rows, s.out_row), block, 0, s,
           rows, g, slopes, maps);
    launch(context, "ssim_rows_adjoint_kernel", ssim_rows_adjoint_kernel, SsimPlan::grid(rows, s.row), block, 0, s, rows, scale,
           g, maps, p, t, a.grad.ptr() + offset);
  }
  launch(context, "ssim_finish_kernel", ssim_finish_kernel, dim3(1), block, 0, plan.blocks, positions, LossOutput::of(a),
         partial);
}

std::string why_not(const SsimLoss& a) {
  if (a.N < 1 || a.C < 1 || a.H < 1 || a.W < 1) return "the mean over no pixels is undefined; N, C, H and W must be positive";
  if (a.window < 1 || a.window > a.H || a.window > a.W)
    return "the window (" + std::to_string(a.window) + ") must be at least 1 and at most the image's height and width (" +
           std::to_string(a.H) + "x" + std::to_string(a.W) + ")";
  if (!(a.sigma > 0.0f)) return "sigma must be positive";
  return image_error("the prediction", a.C * a.H * a.W);
}

}  // namespace ssim_kernels

Entry<SsimLoss> ssim_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::shared
