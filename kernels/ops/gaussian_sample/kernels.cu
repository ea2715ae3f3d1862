// gaussian_sample: y = mean + exp(log variance / 2) * e, e drawn by counter: see args.h and normal.h
// Layout: NCHW as rows (n, c) of `inner` elements, NHWC as [N, inner, C]; x has 2C channels, means first.
// One thread owns four elements of y that follow each other in NCHW, for which one block of random words serves.
// One implementation for all versions. Expected bottleneck: the launch; latents are small.
// Preconditions: see gaussian_sample_error.
#include "../shared.h"
#include "kernels/common/philox.cuh"
#include "kernels/common/vector.cuh"
#include "preconditions.h"
#define WL_NORMAL __host__ __device__ __forceinline__
#include "../normal.h"
#include "places.h"

namespace warploom::shared {

constexpr int kSampleThreads = 128;

struct SampleDraw {
  SamplePlaces places;
  uint32_t stream, key_low, key_high;
  int draws;

  // Of elements 4 * group .. 4 * group + 3.
  __device__ __forceinline__ void of(int64_t group, const int* step, float (&drawn)[4]) const {
    if (!draws) {
      WL_UNROLL
      for (int e = 0; e < 4; ++e) drawn[e] = 0.0f;
      return;
    }
    const Draws4 d = philox4(static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), static_cast<uint32_t>(step[0]),
                             stream, key_low, key_high);
    normal_pair(d.word[0], d.word[1], &drawn[0], &drawn[1]);
    normal_pair(d.word[2], d.word[3], &drawn[2], &drawn[3]);
  }
  template <class Args>
  static SampleDraw of(const Args& a) {
    const bool across = a.layout == Layout::nhwc;
    return {{a.C, a.inner, across ? a.C : a.C * a.inner, across},
            static_cast<uint32_t>(a.stream),
            static_cast<uint32_t>(a.seed),
            static_cast<uint32_t>(static_cast<uint64_t>(a.seed) >> 32),
            a.draws && a.step};
  }
};

__global__ void gaussian_sample_kernel(int64_t count, SampleDraw draw, const int* __restrict__ step,  // [1] or null
                                       const float* __restrict__ x,                                   // [N, 2C, inner]
                                       float* __restrict__ y) {                                       // [N, C, inner]
  const int64_t group = static_cast<int64_t>(blockIdx.x) * kSampleThreads + threadIdx.x;
  if (4 * group >= count) return;
  float drawn[4];
  draw.of(group, step, drawn);
  WL_UNROLL
  for (int e = 0; e < 4; ++e) {
    if (4 * group + e >= count) break;
    const SamplePlace at = draw.places.of(4 * group + e);
    const float mean = x[at.mean];
    y[at.y] = draw.draws ? fmaf(expf(0.5f * x[at.mean + draw.places.apart]), drawn[e], mean) : mean;
  }
}

__global__ void gaussian_sample_backward_kernel(int64_t count, SampleDraw draw, const int* __restrict__ step,  // [1] or null
                                                const float* __restrict__ x,                                   // [N, 2C, inner]
                                                const float* __restrict__ dy,                                  // [N, C, inner]
                                                float* __restrict__ dx) {                                      // [N, 2C, inner]
  const int64_t group = static_cast<int64_t>(blockIdx.x) * kSampleThreads + threadIdx.x;
  if (4 * group >= count) return;
  float drawn[4];
  draw.of(group, step, drawn);
  WL_UNROLL
  for (int e = 0; e < 4; ++e) {
    if (4 * group + e >= count) break;
    const SamplePlace at = draw.places.of(4 * group + e);
    const int64_t log_variance = at.mean + draw.places.apart;
    const float d = dy[at.y];
    dx[at.mean] = d;
    dx[log_variance] = draw.draws ? d * (0.5f * drawn[e] * expf(0.5f * x[log_variance])) : 0.0f;
  }
}

static unsigned sample_blocks(int64_t count) { return blocks_for((count + 3) / 4, kSampleThreads); }

static void run_forward(const GaussianSample& a, const Context& context) {
  const int64_t count = a.N * a.C * a.inner;
  if (count == 0) return;
  launch(context, "shared::gaussian_sample_kernel", gaussian_sample_kernel, dim3(sample_blocks(count)), dim3(kSampleThreads), 0,
         count, SampleDraw::of(a), a.step.ptr<int>(), a.x.ptr(), a.y.ptr());
}

static void run_backward(const GaussianSampleBackward& a, const Context& context) {
  const int64_t count = a.N * a.C * a.inner;
  if (count == 0) return;
  launch(context, "shared::gaussian_sample_backward_kernel", gaussian_sample_backward_kernel, dim3(sample_blocks(count)),
         dim3(kSampleThreads), 0, count, SampleDraw::of(a), a.step.ptr<int>(), a.x.ptr(), a.dy.ptr(), a.dx.ptr());
}

Entry<GaussianSample> gaussian_sample() { return {run_forward, gaussian_sample_error<GaussianSample>, nullptr, nullptr}; }
Entry<GaussianSampleBackward> gaussian_sample_backward() {
  return {run_backward, gaussian_sample_error<GaussianSampleBackward>, nullptr, nullptr};
}

}  // namespace warploom::shared
