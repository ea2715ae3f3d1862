// elementwise.cu (v2): y = f(x), dx = dy * f'(x) written with y or x, y = a + b, and the SGD update of v1, over flat arrays
// Layout: any; flat arrays of `count` floats; hyper is [lr, momentum, weight_decay] on the device.
// One thread owns 4 neighbouring elements (1 where a pointer is not 16-byte aligned), the thread after the last group the
//   remainder.
// From v1: one 16-byte access per array and thread instead of four of 4 bytes.
// Expected bottleneck: memory bandwidth.
// Preconditions: none; outputs may be the very same buffer as an input (hence no __restrict__).
#include "../common/activation.cuh"
#include "../common/vector.cuh"
#include "entries.h"

namespace warploom::v2 {

// Runs body(i) for the elements of this thread, body4(i) where it has a whole aligned group of them.
template <class Body4, class Body>
__device__ __forceinline__ void for_group(int64_t count, bool vector, Body4 body4, Body body) {
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (!vector) {
    if (thread < count) body(thread);
  } else if (thread < count / 4) {
    body4(thread * 4);
  } else if (thread == count / 4) {
    for (int64_t i = count / 4 * 4; i < count; ++i) body(i);
  }
}
static dim3 grid_for(int64_t count, bool vector) { return dim3(blocks_for(vector ? (count + 3) / 4 : count, kThreads)); }

__global__ void activation_forward_kernel(int64_t count, bool vector, Activation kind, float slope, const float* x,  // [count]
                                          float* y) {                                                                // [count]
  const auto f = [=](float v) { return activate(kind, v, slope); };
  for_group(
      count, vector,
      [=](int64_t i) {
        const float4 v = load4(x + i);
        store4(y + i, make_float4(f(v.x), f(v.y), f(v.z), f(v.w)));
      },
      [=](int64_t i) { y[i] = f(x[i]); });
}

__global__ void activation_backward_kernel(int64_t count, bool vector, Activation kind, float slope, const float* dy,  // [count]
                                           const float* y,                                                             // [count]
                                           float* dx) {                                                                // [count]
  const auto f = [=](float g, float v) { return activation_gradient(kind, g, v, slope); };
  for_group(
      count, vector,
      [=](int64_t i) {
        const float4 g = load4(dy + i), v = load4(y + i);
        store4(dx + i, make_float4(f(g.x, v.x), f(g.y, v.y), f(g.z, v.z), f(g.w, v.w)));
      },
      [=](int64_t i) { dx[i] = f(dy[i], y[i]); });
}

template <Activation kKind>
__global__ void smooth_forward_kernel(int64_t count, bool vector, float slope, const float* x,  // [count]
                                      float* y) {                                               // [count]
  for_group(
      count, vector,
      [=](int64_t i) {
        const float4 v = load4(x + i);
        store4(y + i, make_float4(smooth<kKind>(v.x, slope), smooth<kKind>(v.y, slope), smooth<kKind>(v.z, slope),
                                  smooth<kKind>(v.w, slope)));
      },
      [=](int64_t i) { y[i] = smooth<kKind>(x[i], slope); });
}

template <Activation kKind>
__global__ void smooth_backward_kernel(int64_t count, bool vector, float slope, const float* dy,  // [count]
                                       const float* at,                                           // [count]: y, or x
                                       float* dx) {                                               // [count]
  const auto f = [=](float g, float v) { return smooth_gradient<kKind>(g, v, slope); };
  for_group(
      count, vector,
      [=](int64_t i) {
        const float4 g = load4(dy + i), v = load4(at + i);
        store4(dx + i, make_float4(f(g.x, v.x), f(g.y, v.y), f(g.z, v.z), f(g.w, v.w)));
      },
      [=](int64_t i) { dx[i] = f(dy[i], at[i]); });
}

__global__ void add_kernel(int64_t count, bool vector, const float* a, const float* b, float* y) {  // [count] each
  for_group(
      count, vector,
      [=](int64_t i) {
        const float4 u = load4(a + i), v = load4(b + i);
        store4(y + i, make_float4(u.x + v.x, u.y + v.y, u.z + v.z, u.w + v.w));
      },
      [=](int64_t i) { y[i] = a[i] + b[i]; });
}

struct SgdStep {
  float lr, momentum, weight_decay, scale;
  bool nesterov;
  __device__ __forceinline__ float decayed(float g, float w) const { return scale * g + weight_decay * w; }
  // Updates the velocity and returns the step along which w moves.
  __device__ __forceinline__ float with_velocity(float d, float& velocity) const {
    velocity = momentum * velocity + d;
    return nesterov ? d + momentum * velocity : velocity;
  }
};

__global__ void sgd_update_kernel(int64_t count, bool vector, int nesterov, const float* __restrict__ hyper,  // [3]
                                  const float* __restrict__ scale,                                            // [1] or null
                                  const float* __restrict__ g,                                                // [count]
                                  float* __restrict__ w,                                                      // [count]
                                  float* __restrict__ velocity) {                                             // [count] or null
  const SgdStep sgd = {hyper[0], hyper[1], hyper[2], scale ? scale[0] : 1.0f, nesterov != 0};
  for_group(
      count, vector,
      [=](int64_t i) {
        const float4 gradient = load4(g + i), old = load4(w + i);
        float4 d = make_float4(sgd.decayed(gradient.x, old.x), sgd.decayed(gradient.y, old.y), sgd.decayed(gradient.z, old.z),
                               sgd.decayed(gradient.w, old.w));
        if (velocity) {
          float4 v = load4(velocity + i);
          d = make_float4(sgd.with_velocity(d.x, v.x), sgd.with_velocity(d.y, v.y), sgd.with_velocity(d.z, v.z),
                          sgd.with_velocity(d.w, v.w));
          store4(velocity + i, v);
        }
        store4(w + i, make_float4(old.x - sgd.lr * d.x, old.y - sgd.lr * d.y, old.z - sgd.lr * d.z, old.w - sgd.lr * d.w));
      },
      [=](int64_t i) {
        float d = sgd.decayed(g[i], w[i]);
        if (velocity) {
          float v = velocity[i];
          d = sgd.with_velocity(d, v);
          velocity[i] = v;
        }
        w[i] -= sgd.lr * d;
      });
}

static void run_forward(const ActivationForward& a, const Context& context) {
  const bool vector = aligned16(a.x.data, a.y.data);
  if (!in_epilogues(a.kind))
    return with_smooth(a.kind, [&](auto kind) {
      launch(context, "v2::smooth_forward_kernel", smooth_forward_kernel<decltype(kind)::value>, grid_for(a.count, vector),
             dim3(kThreads), 0, a.count, vector, a.negative_slope, a.x.ptr(), a.y.ptr());
    });
  launch(context, "v2::activation_forward_kernel", activation_forward_kernel, grid_for(a.count, vector), dim3(kThreads), 0,
         a.count, vector, a.kind, a.negative_slope, a.x.ptr(), a.y.ptr());
}

static void run_backward(const ActivationBackward& a, const Context& context) {
  const float* at = gradient_needs_input(a.kind) ? a.x.ptr() : a.y.ptr();
  const bool vector = aligned16(a.dy.data, at, a.dx.data);
  if (!in_epilogues(a.kind))
    return with_smooth(a.kind, [&](auto kind) {
      launch(context, "v2::smooth_backward_kernel", smooth_backward_kernel<decltype(kind)::value>, grid_for(a.count, vector),
             dim3(kThreads), 0, a.count, vector, a.negative_slope, a.dy.ptr(), at, a.dx.ptr());
    });
  launch(context, "v2::activation_backward_kernel", activation_backward_kernel, grid_for(a.count, vector), dim3(kThreads), 0,
         a.count, vector, a.kind, a.negative_slope, a.dy.ptr(), a.y.ptr(), a.dx.ptr());
}

static void run_add(const Add& a, const Context& context) {
  const bool vector = aligned16(a.a.data, a.b.data, a.y.data);
  launch(context, "v2::add_kernel", add_kernel, grid_for(a.count, vector), dim3(kThreads), 0, a.count, vector, a.a.ptr(),
         a.b.ptr(), a.y.ptr());
}

static void run_sgd(const SgdUpdate& a, const Context& context) {
  const bool vector = aligned16(a.g.data, a.w.data, a.velocity.data);
  launch(context, "v2::sgd_update_kernel", sgd_update_kernel, grid_for(a.count, vector), dim3(kThreads), 0, a.count, vector,
         a.nesterov, a.hyper.ptr(), a.scale.ptr(), a.g.ptr(), a.w.ptr(), a.velocity.ptr());
}

Entry<ActivationForward> activation_forward() { return {run_forward, nullptr, nullptr, nullptr}; }
Entry<ActivationBackward> activation_backward() { return {run_backward, nullptr, nullptr, nullptr}; }
Entry<Add> add() { return {run_add, nullptr, nullptr, nullptr}; }
Entry<SgdUpdate> sgd_update() { return {run_sgd, nullptr, nullptr, nullptr}; }

}  // namespace warploom::v2
