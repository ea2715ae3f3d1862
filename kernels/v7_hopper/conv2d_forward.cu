// conv2d_forward.cu (v7): y = pool(activation(conv(upsample(x), w) + bias)) by wgmma (halo_gemm.cuh)
// Layout: x [N, H, W, C_in], w hwio [KH, KW, C_in, C_out], bias [C_out], y [N, OH, OW, C_out], pooled [N, OH/2, OW/2, C_out] and saved
//   the same, one byte each, as v5 makes it; zero padding.
// One block owns 128 pixels x 128 or 64 output channels.
// From v5: see halo_gemm.cuh. Expected bottleneck: the warps that round.
// Preconditions: compute capability 9.0; choice.h says which convolutions, v6 takes the rest; workspace: the prepared weights.
#include <algorithm>

#include "../v6_bilinear/table.h"
#include "choice.h"
#include "convolve.h"
#include "entries.h"

namespace warploom::v7 {

template <class T, int BN, bool kPool>
__global__ __launch_bounds__(kThreads,
                             1) void conv2d_forward_kernel(HaloGemm g, Epilogue epilogue,
                                                           const WL_GRID_CONSTANT TensorMap x,        // [N, H, W, C_in]
                                                           const unsigned char* __restrict__ packed,  // errand.h
                                                           unsigned char* __restrict__ saved,  // [N, OH/2, OW/2, C_out] or null
                                                           void* __restrict__ y) {             // [N, OH, OW, C_out]
  if constexpr (!kHasWgmma) return;
  halo_gemm<T, BN, kPool, false, false>(g, &x, x, packed, epilogue, nullptr, saved, y);
}

template <class T, int BN>
void launch_forward(const Context& context, const Problem& p, const Call& call, const TensorMap& source) {
  launch(context, "v7::conv2d_forward_kernel",
         call.pool ? conv2d_forward_kernel<T, BN, true> : conv2d_forward_kernel<T, BN, false>,
         dim3(blocks_for(tiles_of(p.g) * p.g.n_tiles, 1)), dim3(kThreads), static_cast<size_t>(shared_bytes(p.g, BN, false)), p.g,
         call.epilogue, source, call.packed, call.codes, call.out);
}

static void run(const Conv2dForward& a, const Context& context) {
  const Problem p = forward_problem(a);
  if (!p.why.empty()) return v6::table().conv2d_forward.run(a, context);
  if (!aligned16(a.x.data, a.prepared.data)) {
    require_aligned(a.prepared.data);
    return v6::table().conv2d_forward.run(a, context);
  }
  require_hopper(context);
  Call call;
  call.source = a.x.data, call.out = a.y.data, call.codes = a.saved.ptr<unsigned char>();
  call.packed = prepared_weights(p, a, context, 0);
  call.epilogue = Epilogue{a.bias.ptr(), a.fusion.activation, a.fusion.negative_slope};
  call.pool = a.fusion.pool == 2;
  with_operand_type(a.fusion.precision, [&](auto type) {
    using T = decltype(type);
    if (p.form == WeightForm::upsampled) return convolve_transposed<T>(context, p, call);
    const TensorMap source = source_map(p, call);
    p.columns == 128 ? launch_forward<T, 128>(context, p, call, source) : launch_forward<T, 64>(context, p, call, source);
  });
}

static std::string why_not(const Conv2dForward& a) {
  return forward_problem(a).why.empty() ? "" : v6::table().conv2d_forward.why_not(a);
}
static int64_t workspace_bytes(const Conv2dForward& a) {
  const Problem p = forward_problem(a);
  if (p.why.empty() && a.prepared) return 0;
  const int64_t below = v6::table().conv2d_forward.workspace_bytes(a);
  return p.why.empty() ? std::max(preparation_bytes(p, a), below) : below;
}
static int64_t saved_bytes(const Conv2dForward& a) {
  if (!forward_problem(a).why.empty()) return v6::table().conv2d_forward.saved_bytes(a);
  return a.fusion.pool == 2 ? fused_y_count(a.s, a.fusion) : 0;
}
static const char* algorithm(const Conv2dForward& a) {
  return forward_problem(a).why.empty() ? algorithm_name(a.fusion.precision) : v6::table().conv2d_forward.algorithm(a);
}

static Errand preparation(const Conv2dForward& a) {
  const Problem p = forward_problem(a);
  return p.why.empty() ? preparation_of(p, a) : v6::table().conv2d_forward.preparation(a);
}

Entry<Conv2dForward> conv2d_forward() { return {run, why_not, workspace_bytes, saved_bytes, algorithm, preparation}; }

}  // namespace warploom::v7
