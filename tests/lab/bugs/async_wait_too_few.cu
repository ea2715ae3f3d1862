// Two groups are under way and only the older one is waited for.
#include <cuda_pipeline.h>
__global__ void stage(float* out, const float* in) {
  __shared__ float s[2][64];
  for (int k = 0; k < 2; k++) {
    __pipeline_memcpy_async(&s[k][threadIdx.x], &in[k * 64 + threadIdx.x], 4);
    __pipeline_commit();
  }
  __pipeline_wait_prior(1);
  __syncthreads();
  out[threadIdx.x] = s[0][threadIdx.x] + s[1][threadIdx.x];  // BUG: uninitialised-shared
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
