// elementwise.cu (v1): y = f(x) and dx = dy * f'(x) written with y, or with x where y does not tell; y = a + b.
// Layout: any; the tensors are flat arrays of `count` floats.
// One thread owns one element.
// First rung.
// Expected bottleneck: memory bandwidth, reached only in part because each thread has one 4-byte access in flight.
// Preconditions: none; outputs may be the very same buffer as an input (hence no __restrict__).
#include "../common/activation.cuh"
#include "../common/preconditions.h"
#include "entries.h"

namespace warploom::v1 {

__global__ void activation_forward_kernel(int64_t count, Activation kind, float negative_slope, const float* x,  // [count]
                                          float* y) {                                                            // [count]
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) y[i] = activate(kind, x[i], negative_slope);
}

__global__ void activation_backward_kernel(int64_t count, Activation kind, float negative_slope, const float* dy,  // [count]
                                           const float* y,                                                         // [count]
                                           float* dx) {                                                            // [count]
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) dx[i] = activation_gradient(kind, dy[i], y[i], negative_slope);
}

template <Activation kKind>
__global__ void smooth_forward_kernel(int64_t count, float slope, const float* x,  // [count]
                                      float* y) {                                  // [count]
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) y[i] = smooth<kKind>(x[i], slope);
}

template <Activation kKind>
__global__ void smooth_backward_kernel(int64_t count, float slope, const float* dy,  // [count]
                                       const float* at,                              // [count]: y, or x
                                       float* dx) {                                  // [count]
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) dx[i] = smooth_gradient<kKind>(dy[i], at[i], slope);
}

__global__ void add_kernel(int64_t count, const float* a, const float* b, float* y) {  // [count] each
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) y[i] = a[i] + b[i];
}

static void run_forward(const ActivationForward& a, const Context& context) {
  if (!in_epilogues(a.kind))
    return with_smooth(a.kind, [&](auto kind) {
      launch(context, "v1::smooth_forward_kernel", smooth_forward_kernel<decltype(kind)::value>,
             dim3(blocks_for(a.count, kThreads)), dim3(kThreads), 0, a.count, a.negative_slope, a.x.ptr(), a.y.ptr());
    });
  launch(context, "v1::activation_forward_kernel", activation_forward_kernel, dim3(blocks_for(a.count, kThreads)), dim3(kThreads),
         0, a.count, a.kind, a.negative_slope, a.x.ptr(), a.y.ptr());
}

static void run_backward(const ActivationBackward& a, const Context& context) {
  if (!in_epilogues(a.kind))
    return with_smooth(a.kind, [&](auto kind) {
      launch(context, "v1::smooth_backward_kernel", smooth_backward_kernel<decltype(kind)::value>,
             dim3(blocks_for(a.count, kThreads)), dim3(kThreads), 0, a.count, a.negative_slope, a.dy.ptr(),
             gradient_needs_input(a.kind) ? a.x.ptr() : a.y.ptr(), a.dx.ptr());
    });
  launch(context, "v1::activation_backward_kernel", activation_backward_kernel, dim3(blocks_for(a.count, kThreads)),
         dim3(kThreads), 0, a.count, a.kind, a.negative_slope, a.dy.ptr(), a.y.ptr(), a.dx.ptr());
}

static void run_add(const Add& a, const Context& context) {
  launch(context, "v1::add_kernel", add_kernel, dim3(blocks_for(a.count, kThreads)), dim3(kThreads), 0, a.count, a.a.ptr(),
         a.b.ptr(), a.y.ptr());
}

Entry<ActivationForward> activation_forward() { return {run_forward, float32_map<ActivationForward>, nullptr, nullptr}; }
Entry<ActivationBackward> activation_backward() { return {run_backward, float32_map<ActivationBackward>, nullptr, nullptr}; }
Entry<Add> add() { return {run_add, float32_map<Add>, nullptr, nullptr}; }

}  // namespace warploom::v1
