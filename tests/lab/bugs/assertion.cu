// The kernel's own assertion does not hold.
#include <assert.h>
__global__ void check(const int* x) {
  assert(x[threadIdx.x] < 50);  // BUG: assert
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  check<<<1, 64>>>(a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
