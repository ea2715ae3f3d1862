// conv2d_backward_input.cu (v2): dx = conv(dy, mirrored w) as an implicit GEMM: pixels x (taps * output channels) times w^T
// Layout: dy [N, OH, OW, C_out], w hwio [KH, KW, C_in/groups, C_out], dx [N, H, W, C_in]; zero padding, any groups.
// One block owns a tile of pixels x input channels of one group and one phase of the stride, one thread a register tile of it.
// From v1: as forward; a stride costs nothing, because pixels of equal phase see the same taps and make a dense problem
//   (grid.y).
// Expected bottleneck: FFMA issue.
// Preconditions: no fusion; stride_h * stride_w <= 65535.
#include "../common/preconditions.h"
#include "entries.h"
#include "grouped.h"
#include "implicit_gemm.cuh"

namespace warploom::v2 {

template <class T, bool kMasked>
__global__ __launch_bounds__(T::kThreads, T::kBlocksPerMultiprocessor) void conv2d_backward_input_kernel(
    ImplicitGemm g, const float* __restrict__ dy,  // [N, OH, OW, C_out]
    const float* __restrict__ w,                   // [KH, KW, C_in/groups, C_out]
    float* __restrict__ dx) {                      // [N, H, W, C_in]
  implicit_gemm<T, true, kMasked>(g, dy, w, nullptr, dx);
}

static void run(const Conv2dBackwardInput& a, const Context& context) {
  const Conv2dShape& s = a.s;
  if (small_groups(s)) return grouped_backward_input(a, context);
  ImplicitGemm g;
  g.rows = (s.H + s.stride_h - 1) / s.stride_h, g.cols = (s.W + s.stride_w - 1) / s.stride_w;
  g.groups = s.groups, g.k_channels = s.C_out / s.groups, g.n_channels = s.C_in / s.groups;
  g.taps_h = s.KH, g.taps_w = s.KW;
  g.src_H = s.OH, g.src_W = s.OW, g.src_C = s.C_out;
  g.out_H = s.H, g.out_W = s.W, g.out_C = s.C_in;
  g.step_h = s.stride_h, g.step_w = s.stride_w, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  g.w_width = s.KW, g.w_inputs = g.n_channels, g.w_outputs = s.C_out;
  g.vector_k = g.k_channels % 4 == 0 && aligned16(a.dy.data, a.w.data);
  g.vector_n = g.n_channels % 4 == 0 && aligned16(a.dx.data);
  g.by_image = FastDivisor(g.rows * g.cols), g.by_col = FastDivisor(g.cols);
  g.by_channel = FastDivisor(g.k_channels), g.by_tap = FastDivisor(s.KW);

  const int64_t pixels = int64_t(g.rows) * g.cols;
  const int phases = s.stride_h * s.stride_w;
  const int images = images_per_launch(s.N, int64_t(s.C_in) * s.H * s.W, int64_t(s.C_out) * s.OH * s.OW);
  choose_tile(pixels * s.N * phases, g.n_channels, s.groups, [&](auto tile) {
    using T = decltype(tile);
    const bool masked = masked_form<T>(g);
    const auto kernel = masked ? conv2d_backward_input_kernel<T, true> : conv2d_backward_input_kernel<T, false>;
    for (int first = 0; first < s.N; first += images) {
      g.N = s.N - first < images ? s.N - first : images;
      const int64_t blocks = (g.N * pixels + T::BM - 1) / T::BM * ((g.n_channels + T::BN - 1) / T::BN) * s.groups;
      launch(context, "v2::conv2d_backward_input_kernel", kernel, dim3(blocks_for(blocks, 1), static_cast<unsigned>(phases)),
             dim3(T::kThreads), 0, g, a.dy.ptr() + first * (s.y_count() / s.N), a.w.ptr(),
             a.dx.ptr() + first * (s.x_count() / s.N));
    }
  });
}

static std::string why_not(const Conv2dBackwardInput& a) {
  const std::string why = plain_conv2d(a);
  if (!why.empty()) return why;
  return int64_t(a.s.stride_h) * a.s.stride_w > 65535
             ? "stride_h * stride_w must be at most 65535, one grid row each; v1 takes any stride, in fp32"
             : "";
}

Entry<Conv2dBackwardInput> conv2d_backward_input() { return {run, why_not, nullptr, nullptr}; }

}  // namespace warploom::v2
