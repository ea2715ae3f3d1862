// elementwise.cu (v2): y = f(x), dx = dy * f'(x) written with y or x, y = a + b, and the SGD update of v1, over flat arrays
// Layout: any; flat arrays of `count` floats, of the first three also of 16 bits; hyper is [lr, momentum, weight_decay] on the device.
// One thread owns 4 neighbouring elements (1 where a pointer is not 16-byte aligned), the thread after the last group the
//   remainder.
// From v1: one 16-byte access per array and thread instead of four of 4 bytes.
// Expected bottleneck: memory bandwidth.
// Preconditions: none; outputs may be the very same buffer as an input (hence no __restrict__).
#include "../common/activation.cuh"
#include "../common/half_map.cuh"
#include "../common/preconditions.h"
#include "../common/sgd_step.cuh"
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

// ---- Maps in 16 bits of T: the sums and products are float32's, one rounding at the end ----

__device__ __forceinline__ void load_group(float (&to)[4], const float* from) {
  const float4 v = load4(from);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
template <class T>
struct Halves {  // so many of T
  uint16_t bits;
};
template <class T>
__device__ __forceinline__ void load_group(float (&to)[4], const Halves<T>* from) {
  const uint2 words = *reinterpret_cast<const uint2*>(from);
  const float2 low = widen2<T>(words.x), high = widen2<T>(words.y);
  to[0] = low.x, to[1] = low.y, to[2] = high.x, to[3] = high.y;
}
__device__ __forceinline__ void store_group(float* to, const float (&v)[4]) { store4(to, make_float4(v[0], v[1], v[2], v[3])); }
template <class T>
__device__ __forceinline__ void store_group(Halves<T>* to, const float (&v)[4]) {
  *reinterpret_cast<uint2*>(to) = make_uint2(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
}
__device__ __forceinline__ float load_one(const float* from) { return *from; }
template <class T>
__device__ __forceinline__ float load_one(const Halves<T>* from) {
  return widen2<T>(from->bits).x;
}
__device__ __forceinline__ void store_one(float* to, float v) { *to = v; }
template <class T>
__device__ __forceinline__ void store_one(Halves<T>* to, float v) {
  to->bits = static_cast<uint16_t>(pack2<T>(v, 0.0f));
}

// y = f(a, b), element by element.
template <class A, class B, class Y, class F>
__device__ __forceinline__ void for_halves(int64_t count, bool vector, const A* a, const B* b, Y* y, F f) {
  for_group(
      count, vector,
      [=](int64_t i) {
        float u[4], v[4], r[4];
        load_group(u, a + i), load_group(v, b + i);
        WL_UNROLL
        for (int e = 0; e < 4; ++e) r[e] = f(u[e], v[e]);
        store_group(y + i, r);
      },
      [=](int64_t i) { store_one(y + i, f(load_one(a + i), load_one(b + i))); });
}

template <class T>
__global__ void activation_forward_halves_kernel(int64_t count, bool vector, Activation kind, float slope,
                                                 const Halves<T>* x,  // [count]
                                                 Halves<T>* y) {      // [count]
  if constexpr (!kCompiledHere<T>) return;
  for_group(
      count, vector,
      [=](int64_t i) {
        float v[4];
        load_group(v, x + i);
        WL_UNROLL
        for (int e = 0; e < 4; ++e) v[e] = activate(kind, v[e], slope);
        store_group(y + i, v);
      },
      [=](int64_t i) { store_one(y + i, activate(kind, load_one(x + i), slope)); });
}

template <class T, class Gradient>
__global__ void activation_backward_halves_kernel(int64_t count, bool vector, Activation kind, float slope,
                                                  const Gradient* dy,  // [count]
                                                  const Halves<T>* y,  // [count]
                                                  Gradient* dx) {      // [count]
  if constexpr (!kCompiledHere<T>) return;
  for_halves(count, vector, dy, y, dx, [=](float g, float v) { return activation_gradient(kind, g, v, slope); });
}

template <class T>
__global__ void add_halves_kernel(int64_t count, bool vector, const Halves<T>* a, const Halves<T>* b,
                                  Halves<T>* y) {  // [count] each
  if constexpr (!kCompiledHere<T>) return;
  for_halves(count, vector, a, b, y, [](float u, float v) { return u + v; });
}

__global__ void sgd_update_kernel(int64_t count, bool vector, int nesterov, const float* __restrict__ hyper,  // [3]
                                  const float* __restrict__ scale,                                            // [1] or null
                                  const float* __restrict__ g,                                                // [count]
                                  float* __restrict__ w,                                                      // [count]
                                  float* __restrict__ velocity) {                                             // [count] or null
  const SgdStep sgd(hyper, scale ? scale[0] : 1.0f, nesterov != 0);
  for_group(
      count, vector, [=](int64_t i) { sgd.update4(load4(g + i), w + i, velocity ? velocity + i : nullptr); },
      [=](int64_t i) { sgd.update(g[i], w + i, velocity ? velocity + i : nullptr); });
}

static void require_rounding(DType type, const Context& context) {
  if (type == DType::bf16 && context.device && context.device->compute_major < 8)
    throw DeviceError("maps in bf16 need a GPU of compute capability 8.0 or newer; use precision fp16 or fp32");
}

template <class T>
static void run_halves(const ActivationForward& a, const Context& context, bool vector) {
  launch(context, "v2::activation_forward_halves_kernel", activation_forward_halves_kernel<T>, grid_for(a.count, vector),
         dim3(kThreads), 0, a.count, vector, a.kind, a.negative_slope, a.x.ptr<Halves<T>>(), a.y.ptr<Halves<T>>());
}

static void run_forward(const ActivationForward& a, const Context& context) {
  const bool vector = aligned16(a.x.data, a.y.data);
  require_rounding(a.type, context);
  if (a.type == DType::bf16) return run_halves<Bf16>(a, context, vector);
  if (a.type == DType::f16) return run_halves<F16>(a, context, vector);
  if (!in_epilogues(a.kind))
    return with_smooth(a.kind, [&](auto kind) {
      launch(context, "v2::smooth_forward_kernel", smooth_forward_kernel<decltype(kind)::value>, grid_for(a.count, vector),
             dim3(kThreads), 0, a.count, vector, a.negative_slope, a.x.ptr(), a.y.ptr());
    });
  launch(context, "v2::activation_forward_kernel", activation_forward_kernel, grid_for(a.count, vector), dim3(kThreads), 0,
         a.count, vector, a.kind, a.negative_slope, a.x.ptr(), a.y.ptr());
}

template <class T, class Gradient>
static void run_halves(const ActivationBackward& a, const Context& context, bool vector) {
  launch(context, "v2::activation_backward_halves_kernel", activation_backward_halves_kernel<T, Gradient>,
         grid_for(a.count, vector), dim3(kThreads), 0, a.count, vector, a.kind, a.negative_slope, a.dy.ptr<Gradient>(),
         a.y.ptr<Halves<T>>(), a.dx.ptr<Gradient>());
}

static void run_backward(const ActivationBackward& a, const Context& context) {
  const float* at = gradient_needs_input(a.kind) ? a.x.ptr() : a.y.ptr();
  const bool vector = aligned16(a.dy.data, at, a.dx.data);
  require_rounding(a.type, context);
  if (a.type == DType::bf16) return run_halves<Bf16, Halves<Bf16>>(a, context, vector);
  if (a.type == DType::f16) return run_halves<F16, float>(a, context, vector);
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
  require_rounding(a.type, context);
  const auto run_halves = [&](auto type) {
    using T = decltype(type);
    launch(context, "v2::add_halves_kernel", add_halves_kernel<T>, grid_for(a.count, vector), dim3(kThreads), 0, a.count, vector,
           a.a.ptr<Halves<T>>(), a.b.ptr<Halves<T>>(), a.y.ptr<Halves<T>>());
  };
  if (a.type == DType::bf16) return run_halves(Bf16());
  if (a.type == DType::f16) return run_halves(F16());
  launch(context, "v2::add_kernel", add_kernel, grid_for(a.count, vector), dim3(kThreads), 0, a.count, vector, a.a.ptr(),
         a.b.ptr(), a.y.ptr());
}

static void run_sgd(const SgdUpdate& a, const Context& context) {
  const bool vector = aligned16(a.g.data, a.w.data, a.velocity.data);
  launch(context, "v2::sgd_update_kernel", sgd_update_kernel, grid_for(a.count, vector), dim3(kThreads), 0, a.count, vector,
         a.nesterov, a.hyper.ptr(), a.scale.ptr(), a.g.ptr(), a.w.ptr(), a.velocity.ptr());
}

static std::string stored_error(DType type) {
  return type == DType::f32 || type == DType::bf16 || type == DType::f16 ? "" : "maps are stored as f32, bf16 or f16";
}
template <class Args>
static std::string activation_error(const Args& a) {
  if (a.type != DType::f32 && !in_epilogues(a.kind))
    return "of maps in 16 bits this kernel set takes relu, leaky_relu and sigmoid; store others as f32";
  return stored_error(a.type);
}
static std::string add_error(const Add& a) { return stored_error(a.type); }

Entry<ActivationForward> activation_forward() { return {run_forward, activation_error<ActivationForward>, nullptr, nullptr}; }
Entry<ActivationBackward> activation_backward() { return {run_backward, activation_error<ActivationBackward>, nullptr, nullptr}; }
Entry<Add> add() { return {run_add, add_error, nullptr, nullptr}; }
Entry<SgdUpdate> sgd_update() { return {run_sgd, nullptr, nullptr, nullptr}; }

}  // namespace warploom::v2
