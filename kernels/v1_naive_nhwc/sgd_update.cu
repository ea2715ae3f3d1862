// sgd_update.cu (v1): d = scale*g + weight_decay*w; velocity = momentum*velocity + d; w -= lr * (nesterov ? d + momentum*velocity :
//   velocity)
// Layout: any; w, g and velocity are flat arrays of `count` floats; hyper is [lr, momentum, weight_decay] on the device.
// One thread owns one parameter.
// First rung.
// Expected bottleneck: memory bandwidth.
// Preconditions: without a velocity buffer the update is w -= lr * d (momentum is not used).
#include "../common/portable.cuh"
#include "entries.h"

namespace warploom::v1 {

__global__ void sgd_update_kernel(int64_t count, int nesterov, const float* __restrict__ hyper,  // [3]
                                  const float* __restrict__ scale,                               // [1] or null
                                  const float* __restrict__ g,                                   // [count]
                                  float* __restrict__ w,                                         // [count]
                                  float* __restrict__ velocity) {                                // [count] or null
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float lr = hyper[0], momentum = hyper[1], weight_decay = hyper[2];
  float step = (scale ? scale[0] * g[i] : g[i]) + weight_decay * w[i];
  if (velocity) {
    const float v = momentum * velocity[i] + step;
    velocity[i] = v;
    step = nesterov ? step + momentum * v : v;
  }
  w[i] -= lr * step;
}

static void run(const SgdUpdate& a, const Context& context) {
  launch(context, "v1::sgd_update_kernel", sgd_update_kernel, dim3(blocks_for(a.count, kThreads)), dim3(kThreads), 0, a.count,
         a.nesterov, a.hyper.ptr(), a.scale.ptr(), a.g.ptr(), a.w.ptr(), a.velocity.ptr());
}

Entry<SgdUpdate> sgd_update() { return {run, nullptr, nullptr, nullptr}; }

}  // namespace warploom::v1
