// partials.cu (v2): out[i] = sum over s of partials[s][i], the fixed-order second pass of every split reduction
// Layout: partials [splits, count], out [count].
// One thread owns one element (four where count and pointers allow 16-byte access) and adds the splits in order.
// From v1: new; v1 never splits a sum over blocks.
// Expected bottleneck: memory, mostly L2.
// Preconditions: splits >= 1.
#include "../common/vector.cuh"
#include "entries.h"
#include "partials.h"

namespace warploom::v2 {

__global__ void reduce_partials_kernel(int splits, int64_t count, const float* __restrict__ partials,  // [splits, count]
                                       float* __restrict__ out) {                                      // [count]
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float sum = partials[i];
  for (int s = 1; s < splits; ++s) sum += partials[s * count + i];
  out[i] = sum;
}

__global__ void reduce_partials_vector_kernel(int splits, int64_t count, const float* __restrict__ partials,  // [splits, count]
                                              float* __restrict__ out) {                                      // [count]
  const int64_t i = 4 * (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x);
  if (i >= count) return;
  float4 sum = load4(partials + i);
  for (int s = 1; s < splits; ++s) {
    const float4 v = load4(partials + s * count + i);
    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
  }
  store4(out + i, sum);
}

void reduce_partials(const Context& context, const float* partials, int splits, int64_t count, float* out) {
  if (count % 4 == 0 && aligned16(partials, out))
    launch(context, "v2::reduce_partials_vector_kernel", reduce_partials_vector_kernel, dim3(blocks_for(count / 4, kThreads)),
           dim3(kThreads), 0, splits, count, partials, out);
  else
    launch(context, "v2::reduce_partials_kernel", reduce_partials_kernel, dim3(blocks_for(count, kThreads)), dim3(kThreads), 0,
           splits, count, partials, out);
}

}  // namespace warploom::v2
