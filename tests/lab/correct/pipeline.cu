// Two stages of asynchronous copies.
#include <cuda_pipeline.h>
__global__ void stages(float* out, const float* in) {
  __shared__ float s[2][64];
  int t = threadIdx.x;
  float sum = 0;
  __pipeline_memcpy_async(&s[0][t], &in[t], 4);
  __pipeline_commit();
  for (int k = 0; k < 4; k++) {
    if (k < 3) __pipeline_memcpy_async(&s[(k + 1) % 2][t], &in[(k + 1) * 64 + t], 4);
    __pipeline_commit();
    __pipeline_wait_prior(1);
    __syncthreads();
    sum += s[k % 2][63 - t];
    __syncthreads();
  }
  out[t] = sum;
}
int main() {
  static float host[256];
  float* a;
  float* b;
  for (int i = 0; i < 256; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  stages<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  static float result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 4 * (63 - i) + 384);
  return bad != 0;
}
