// A copy of 16 bytes from an address that is no multiple of 16.
#include <cuda_pipeline.h>
__global__ void stage(float* out, const float* in) {
  __shared__ __align__(16) float s[132];
  __pipeline_memcpy_async(&s[4 * threadIdx.x], &in[4 * threadIdx.x + 1], 16);  // BUG: misaligned
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
int main() {
  static float host[132];
  float* a;
  float* b;
  for (int i = 0; i < 132; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  stage<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
