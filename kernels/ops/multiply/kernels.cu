// multiply/kernels.cu: y = a * b; da = dy * b; db = dy * a, summed over the channels where b has one
// Layout: maps [outer, C, inner]; b is [outer, C, inner] or a mask [outer, 1, inner].
// Elementwise: a thread owns four units of four elements, see ../maps.cuh. The sum over channels: in planes a thread owns an element of
//   the mask, neighbours in memory; across channels a warp, or a part of one, owns a row.
// One implementation for all versions. Expected bottleneck: memory bandwidth.
// Preconditions: C * inner < 2^31 - 4096; y may be a; da may be dy where db is not wanted (hence no __restrict__).
#include "../maps.cuh"
#include "../shared.h"

namespace warploom::shared {

template <int kVector>
struct Factors {
  Floats<kVector> a, b;
};

// y = a * b, the whole of b.
template <int kVector, bool kAcross>
__global__ void multiply_kernel(Map map, const float* a, const float* b, float* y) {  // [outer, C, inner] each
  for_map<kVector, kAcross>(
      map, [=](int64_t offset) { return Factors<kVector>{load_floats<kVector>(a + offset), load_floats<kVector>(b + offset)}; },
      [=](const Place& place, Factors<kVector> f) {
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) f.a.v[e] *= f.b.v[e];
        store_floats<kVector>(y + place.offset, f.a);
      });
}

// y = a * b, one b for all channels.
template <int kVector, bool kAcross>
__global__ void multiply_mask_kernel(Map map, int64_t inner, const float* a,  // [outer, C, inner]
                                     const float* __restrict__ b,             // [outer, 1, inner]
                                     float* y) {                              // [outer, C, inner]
  for_map<kVector, kAcross>(
      map, [=](int64_t offset) { return load_floats<kVector>(a + offset); },
      [=](const Place& place, Floats<kVector> f) {
        const float* at = b + place.outer * inner + place.inner;
        WL_UNROLL
        for (int e = 0; e < kVector; ++e) f.v[e] *= kAcross ? at[0] : at[e];
        store_floats<kVector>(y + place.offset, f);
      });
}

// db[o, i] = sum over c of dy * a; a thread per element, the channels in order.
__global__ void multiply_sum_planes_kernel(int64_t count, int64_t C, int64_t inner,
                                           const float* __restrict__ dy,  // [outer, C, inner]
                                           const float* __restrict__ a,   // [outer, C, inner]
                                           float* __restrict__ db) {      // [outer, 1, inner]
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= count) return;
  const int64_t first = at / inner * C * inner + at % inner;
  float sum = 0.0f;
  for (int64_t c = 0; c < C; ++c) sum += dy[first + c * inner] * a[first + c * inner];
  db[at] = sum;
}

// The same where channels are innermost: `lanes` (a power of two) threads per row.
__global__ void multiply_sum_rows_kernel(int64_t rows, int64_t C, int lanes, const float* __restrict__ dy,  // [rows, C]
                                         const float* __restrict__ a,                                       // [rows, C]
                                         float* __restrict__ db) {                                          // [rows]
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / lanes) + static_cast<int>(threadIdx.x) / lanes;
  float sum = 0.0f;
  if (row < rows)
    for (int64_t c = lane; c < C; c += lanes) sum += dy[row * C + c] * a[row * C + c];
  for (int distance = lanes / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (row < rows && lane == 0) db[row] = sum;
}

// y = a * b over maps of the given shape, b whole or a mask.
static void run_product(const Context& context, int64_t outer, int64_t C, int64_t inner, int64_t b_channels, const float* a,
                        const float* b, float* y) {
  with_map(outer, C, inner, aligned16(a, b, y), [&](const Map& map, auto vector, auto across) {
    if (b_channels == C)
      launch(context, "shared::multiply_kernel", multiply_kernel<vector(), across()>, map_grid(map), dim3(kThreads), 0, map, a, b,
             y);
    else
      launch(context, "shared::multiply_mask_kernel", multiply_mask_kernel<vector(), across()>, map_grid(map), dim3(kThreads), 0,
             map, inner, a, b, y);
  });
}

static void run_forward(const MultiplyForward& s, const Context& context) {
  run_product(context, s.outer, s.C, s.inner, s.b_channels, s.a.ptr(), s.b.ptr(), s.y.ptr());
}

static void run_backward(const MultiplyBackward& s, const Context& context) {
  if (s.db && !s.a) throw DeviceError("multiply_backward: the gradient of b needs a, which was not given");
  if (s.db && s.b_channels == s.C) {
    run_product(context, s.outer, s.C, s.inner, s.C, s.dy.ptr(), s.a.ptr(), s.db.ptr());
  } else if (s.db && s.inner == 1) {
    int lanes = 1;
    while (lanes < 32 && lanes < s.C) lanes *= 2;
    launch(context, "shared::multiply_sum_rows_kernel", multiply_sum_rows_kernel, dim3(blocks_for(s.outer, kThreads / lanes)),
           dim3(kThreads), 0, s.outer, s.C, lanes, s.dy.ptr(), s.a.ptr(), s.db.ptr());
  } else if (s.db) {
    const int64_t count = s.outer * s.inner;
    launch(context, "shared::multiply_sum_planes_kernel", multiply_sum_planes_kernel, dim3(blocks_for(count, kThreads)),
           dim3(kThreads), 0, count, s.C, s.inner, s.dy.ptr(), s.a.ptr(), s.db.ptr());
  }
  if (s.da) run_product(context, s.outer, s.C, s.inner, s.b_channels, s.dy.ptr(), s.b.ptr(), s.da.ptr());
}

Entry<MultiplyForward> multiply_forward() { return {run_forward, multiply_error<MultiplyForward>, nullptr, nullptr}; }
Entry<MultiplyBackward> multiply_backward() { return {run_backward, multiply_error<MultiplyBackward>, nullptr, nullptr}; }

}  // namespace warploom::shared
