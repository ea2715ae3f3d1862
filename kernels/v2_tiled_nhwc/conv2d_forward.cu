// conv2d_forward.cu (v2): y = conv(x, w) + bias as an implicit GEMM: pixels x (taps * channels) times (taps * channels) x output
//   channels
// Layout: x [N, H, W, C_in], w hwio [KH, KW, C_in/groups, C_out], bias [C_out], y [N, OH, OW, C_out]; zero padding, any groups.
// One block owns a tile of pixels x output channels of one group, one thread a register tile of it (implicit_gemm.cuh).
// From v1: shared-memory and register tiles, 16-byte loads, weights laid so that neighbouring threads take neighbouring output
//   channels; expected bottleneck: FFMA issue.
// Preconditions: no fusion; groups of a few channels go to the per-channel kernels of conv2d_grouped.cu.
#include "../common/preconditions.h"
#include "entries.h"
#include "grouped.h"
#include "implicit_gemm.cuh"

namespace warploom::v2 {

template <class T, bool kMasked>
__global__ __launch_bounds__(T::kThreads, T::kBlocksPerMultiprocessor) void conv2d_forward_kernel(
    ImplicitGemm g, const float* __restrict__ x,  // [N, H, W, C_in]
    const float* __restrict__ w,                  // [KH, KW, C_in/groups, C_out]
    const float* __restrict__ bias,               // [C_out] or null
    float* __restrict__ y) {                      // [N, OH, OW, C_out]
  implicit_gemm<T, false, kMasked>(g, x, w, bias, y);
}

static void run(const Conv2dForward& a, const Context& context) {
  const Conv2dShape& s = a.s;
  if (small_groups(s)) return grouped_forward(a, context);
  ImplicitGemm g;
  g.rows = s.OH, g.cols = s.OW;
  g.groups = s.groups, g.k_channels = s.C_in / s.groups, g.n_channels = s.C_out / s.groups;
  g.taps_h = s.KH, g.taps_w = s.KW;
  g.src_H = s.H, g.src_W = s.W, g.src_C = s.C_in;
  g.out_H = s.OH, g.out_W = s.OW, g.out_C = s.C_out;
  g.step_h = s.stride_h, g.step_w = s.stride_w, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  g.w_width = s.KW, g.w_inputs = g.k_channels, g.w_outputs = s.C_out;
  g.vector_k = g.k_channels % 4 == 0 && aligned16(a.x.data);
  g.vector_n = g.n_channels % 4 == 0 && aligned16(a.w.data, a.y.data);
  g.by_image = FastDivisor(s.OH * s.OW), g.by_col = FastDivisor(s.OW);
  g.by_channel = FastDivisor(g.k_channels), g.by_tap = FastDivisor(s.KW);

  const int64_t pixels = int64_t(s.OH) * s.OW;
  const int images = images_per_launch(s.N, int64_t(s.C_in) * s.H * s.W, int64_t(s.C_out) * s.OH * s.OW);
  choose_tile(pixels * s.N, g.n_channels, s.groups, [&](auto tile) {
    using T = decltype(tile);
    const bool masked = masked_form<T>(g);
    const auto kernel = masked ? conv2d_forward_kernel<T, true> : conv2d_forward_kernel<T, false>;
    for (int first = 0; first < s.N; first += images) {
      g.N = s.N - first < images ? s.N - first : images;
      const int64_t blocks = (g.N * pixels + T::BM - 1) / T::BM * ((g.n_channels + T::BN - 1) / T::BN) * s.groups;
      launch(context, "v2::conv2d_forward_kernel", kernel, dim3(blocks_for(blocks, 1)), dim3(T::kThreads), 0, g,
             a.x.ptr() + first * (s.x_count() / s.N), a.w.ptr(), a.bias.ptr(), a.y.ptr() + first * (s.y_count() / s.N));
    }
  });
}

Entry<Conv2dForward> conv2d_forward() { return {run, plain_conv2d<Conv2dForward>, nullptr, nullptr}; }

}  // namespace warploom::v2
