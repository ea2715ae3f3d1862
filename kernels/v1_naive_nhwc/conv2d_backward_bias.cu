// conv2d_backward_bias.cu (v1): db[oc] = sum over n,oh,ow of dy[n,oh,ow,oc]
// Layout: dy [N, OH, OW, C_out], db [C_out].
// One thread owns one channel and adds up image by image; neighbouring threads read neighbouring channels.
// First rung.
// Expected bottleneck: C_out threads in all, so nearly the whole GPU idles.
// Preconditions: no fusion; one image below 2^31 elements.
#include "../common/portable.cuh"
#include "../common/preconditions.h"
#include "entries.h"

namespace warploom::v1 {

__global__ void conv2d_backward_bias_kernel(int N, int pixels, int C_out, const float* __restrict__ dy,  // [N, pixels, C_out]
                                            float* __restrict__ db) {                                    // [C_out]
  const int oc = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (oc >= C_out) return;
  float total = 0.0f;
  for (int n = 0; n < N; ++n) {
    const float* image = dy + static_cast<int64_t>(n) * pixels * C_out;
    float sum = 0.0f;
    for (int p = 0; p < pixels; ++p) sum += image[p * C_out + oc];
    total += sum;
  }
  db[oc] = total;
}

static void run(const Conv2dBackwardBias& a, const Context& context) {
  launch(context, "v1::conv2d_backward_bias_kernel", conv2d_backward_bias_kernel, dim3(blocks_for(a.s.C_out, kThreads)),
         dim3(kThreads), 0, a.s.N, a.s.OH * a.s.OW, a.s.C_out, a.dy.ptr(), a.db.ptr());
}

Entry<Conv2dBackwardBias> conv2d_backward_bias() { return {run, plain_conv2d<Conv2dBackwardBias>, nullptr, nullptr}; }

}  // namespace warploom::v1
