// printf, clock64 and the special sizes.
#include <stdio.h>
__global__ void speak(long long* out) {
  long long start = clock64();
  if (threadIdx.x == 0 && blockIdx.x == 0) printf("block of %d, warp of %d\n", blockDim.x, warpSize);
  out[blockIdx.x * blockDim.x + threadIdx.x] = clock64() >= start;
}
int main() {
  static int host[1];
  int* a;
  long* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(long));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  speak<<<2, 32>>>((long long*)b);
  cudaDeviceSynchronize();
  static long result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 1);
  return bad != 0;
}
