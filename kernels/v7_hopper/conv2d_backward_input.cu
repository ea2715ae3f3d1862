// conv2d_backward_input.cu (v7): dx = conv(dy, mirrored w) by wgmma (halo_gemm.cuh); each phase of a stride a dense problem
// Layout: dy [N, OH, OW, C_out] or, pooled, [N, OH/2, OW/2, C_out] with saved as the forward entry made it; w hwio [KH, KW, C_in,
//   C_out], dx [N, H, W, C_in]; zero padding.
// One block owns 128 pixels of one phase x 128 or 64 input channels. The forward entry runs the same kernel for an upsampled x: a
//   transposed convolution of stride 2 with the summed taps. The gradient of that x [N, H/2, W/2, C_in] sums over the phases of dy.
// From v5: see halo_gemm.cuh. Expected bottleneck: the warps that round.
// Preconditions: compute capability 9.0; choice.h says which convolutions, v6 takes the rest; workspace: fp16's scale, the prepared
//   weights.
#include <algorithm>

#include "../v5_tensor_cores/table.h"
#include "../v6_bilinear/table.h"
#include "choice.h"
#include "convolve.h"
#include "entries.h"

namespace warploom::v7 {

template <class T, int BN, bool kUnpool>
__global__ __launch_bounds__(kThreads, 1) void conv2d_backward_input_kernel(
    HaloGemm g, Epilogue epilogue, const WL_GRID_CONSTANT TensorMap dy,  // [N, OH, OW, C_out], pooled [N, OH/2, OW/2, C_out]
    const WL_GRID_CONSTANT TensorMap saved,                              // [N, OH/2, OW/2, C_out] of a pool
    const unsigned char* __restrict__ packed,                            // errand.h
    const float* __restrict__ scale,                                     // [1], of fp16
    void* dx) {                                                          // [N, H, W, C_in], may be epilogue.output
  if constexpr (!kHasWgmma) return;
  halo_gemm<T, BN, false, true, kUnpool>(g, &dy, saved, packed, epilogue, scale, nullptr, dx);
}

template <class T, int BN>
__global__ __launch_bounds__(kThreads,
                             1) void conv2d_backward_upsampled_kernel(HaloGemm g, Epilogue epilogue,
                                                                      const WL_GRID_CONSTANT PhaseMaps dy,  // [N, H, W, C_out]
                                                                      const unsigned char* __restrict__ packed,
                                                                      const float* __restrict__ scale,  // [1], of fp16
                                                                      void* dx) {  // [N, H/2, W/2, C_in], may be epilogue.output
  if constexpr (!kHasWgmma) return;
  halo_gemm<T, BN, false, false, false, true>(g, dy.of, dy.of[0], packed, epilogue, scale, nullptr, dx);
}

template <class T>
static void convolve_by_phases(const Context& context, const Problem& p, const Call& call) {
  launch(context, "v7::conv2d_backward_upsampled_kernel",
         p.columns == 128 ? conv2d_backward_upsampled_kernel<T, 128> : conv2d_backward_upsampled_kernel<T, 64>,
         dim3(blocks_for(tiles_of(p.g) * p.g.n_tiles, 1)), dim3(kThreads),
         static_cast<size_t>(shared_bytes(p.g, p.columns, false)), p.g, call.epilogue,
         phase_maps(p.g.halo, call.source, {p.g.k_channels, p.src_W, p.src_H, p.g.N}), call.packed, call.scale, call.out);
}

template <class T, bool kUnpool>
static void convolve(const Context& context, const Problem& p, const Call& call) {
  const TensorMap source = source_map(p, call);
  launch(context, "v7::conv2d_backward_input_kernel",
         p.columns == 128 ? conv2d_backward_input_kernel<T, 128, kUnpool> : conv2d_backward_input_kernel<T, 64, kUnpool>,
         dim3(blocks_for(tiles_of(p.g) * p.g.n_tiles, 1), static_cast<unsigned>(p.phases)), dim3(kThreads),
         static_cast<size_t>(shared_bytes(p.g, p.columns, kUnpool)), p.g, call.epilogue, source,
         kUnpool ? codes_map(p.g.halo, call.codes, {p.g.k_channels, p.src_W, p.src_H, p.g.N}) : source, call.packed, call.scale,
         call.out);
}
template <class T>
void convolve_transposed(const Context& context, const Problem& p, const Call& call) {
  call.pool ? convolve<T, true>(context, p, call) : convolve<T, false>(context, p, call);
}
template void convolve_transposed<Bf16>(const Context&, const Problem&, const Call&);
template void convolve_transposed<F16>(const Context&, const Problem&, const Call&);
template void convolve_transposed<Tf32>(const Context&, const Problem&, const Call&);

static int64_t scale_bytes(const Conv2dBackwardInput& a) { return a.fusion.precision == Precision::fp16 ? v5::kScaleBytes : 0; }

static void run(const Conv2dBackwardInput& a, const Context& context) {
  const Problem p = backward_input_problem(a);
  if (!p.why.empty()) return v6::table().conv2d_backward_input.run(a, context);
  if (!aligned16(a.dy.data, a.saved.data, a.prepared.data)) {
    require_aligned(a.prepared.data);
    return v6::table().conv2d_backward_input.run(a, context);
  }
  require_hopper(context);
  Call call;
  call.source = a.dy.data, call.out = a.dx.data;
  call.packed = prepared_weights(p, a, context, scale_bytes(a));
  call.pool = a.fusion.pool == 2;
  call.epilogue = epilogue_of(a);
  call.codes = const_cast<unsigned char*>(a.saved.ptr<unsigned char>());  // only read
  if (a.fusion.precision == Precision::fp16) {
    v5::find_gradient_scale(context, a.dy.ptr(), fused_y_count(a.s, a.fusion), context.workspace.ptr());
    call.scale = context.workspace.ptr();
  }
  with_operand_type(a.fusion.precision, [&](auto type) {
    using T = decltype(type);
    p.form == WeightForm::upsampled_transposed ? convolve_by_phases<T>(context, p, call)
                                               : convolve_transposed<T>(context, p, call);
  });
}

static std::string why_not(const Conv2dBackwardInput& a) {
  return backward_input_problem(a).why.empty() ? "" : v6::table().conv2d_backward_input.why_not(a);
}
static int64_t workspace_bytes(const Conv2dBackwardInput& a) {
  const Problem p = backward_input_problem(a);
  if (p.why.empty() && a.prepared) return scale_bytes(a);
  const int64_t below = v6::table().conv2d_backward_input.workspace_bytes(a);
  return p.why.empty() ? std::max(scale_bytes(a) + preparation_bytes(p, a), below) : below;
}
static const char* algorithm(const Conv2dBackwardInput& a) {
  return backward_input_problem(a).why.empty() ? algorithm_name(a.fusion.precision)
                                               : v6::table().conv2d_backward_input.algorithm(a);
}

static Errand preparation(const Conv2dBackwardInput& a) {
  const Problem p = backward_input_problem(a);
  return p.why.empty() ? preparation_of(p, a) : v6::table().conv2d_backward_input.preparation(a);
}

Entry<Conv2dBackwardInput> conv2d_backward_input() { return {run, why_not, workspace_bytes, nullptr, algorithm, preparation}; }

}  // namespace warploom::v7
