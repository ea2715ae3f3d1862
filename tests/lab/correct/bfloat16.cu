// bfloat16, through registers and a reduction.
#include <cuda_bf16.h>
__global__ void sum(float* out, const float* in) {
  __nv_bfloat16 v = __float2bfloat16(in[threadIdx.x]);
  float f = __bfloat162float(v);
  for (int step = 16; step > 0; step /= 2) f += __shfl_xor_sync(0xffffffff, f, step);
  out[threadIdx.x] = f;
}
int main() {
  static float host[32];
  float* a;
  float* b;
  for (int i = 0; i < 32; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  sum<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  static float result[32];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 32; i++) bad += !(result[i] == 496);
  return bad != 0;
}
