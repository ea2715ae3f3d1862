// half and half2.
#include <cuda_fp16.h>
__global__ void halves(float* out, const float* in) {
  __shared__ half s[64];
  s[threadIdx.x] = __float2half(in[threadIdx.x]);
  __syncthreads();
  half2 v = reinterpret_cast<half2*>(s)[threadIdx.x / 2];
  v = __hfma2(v, __float2half2_rn(2.0f), __float2half2_rn(1.0f));
  out[threadIdx.x] = threadIdx.x % 2 ? __high2float(v) : __low2float(v);
}
int main() {
  static float host[64];
  float* a;
  float* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  halves<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  static float result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 2 * i + 1);
  return bad != 0;
}
