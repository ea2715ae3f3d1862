// A copy into a stage that others still read.
#include <cuda_pipeline.h>
__global__ void stage(float* out, const float* in) {
  __shared__ float s[64];
  float sum = 0;
  for (int k = 0; k < 2; k++) {
    __pipeline_memcpy_async(&s[threadIdx.x], &in[k * 64 + threadIdx.x], 4);  // BUG: shared-race
    __pipeline_commit();
    __pipeline_wait_prior(0);  // BUG: shared-race
    __syncthreads();
    sum += s[63 - threadIdx.x];
  }
  out[threadIdx.x] = sum;
}
int main() {
  static float host[128];
  float* a;
  float* b;
  for (int i = 0; i < 128; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  stage<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
