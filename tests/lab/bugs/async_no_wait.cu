// Nobody waits for the copy.
#include <cuda_pipeline.h>
__global__ void stage(float* out, const float* in) {
  __shared__ float s[64];
  __pipeline_memcpy_async(&s[threadIdx.x], &in[threadIdx.x], 4);
  __pipeline_commit();
  __syncthreads();
  out[threadIdx.x] = s[63 - threadIdx.x];  // BUG: uninitialised-shared
}
int main() {
  static float host[64];
  float* a;
  float* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  stage<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
