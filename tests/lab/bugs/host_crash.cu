// The host forgets to allocate what it reads; the crash is the host's own, and its line is named.
#include <cstdio>

__global__ void fill(int* x) { x[threadIdx.x] = threadIdx.x; }

int main(int argc, char**) {
  int *x, *host = argc > 5 ? new int[32] : nullptr;
  cudaMalloc(&x, 32 * sizeof(int));
  fill<<<1, 32>>>(x);
  cudaDeviceSynchronize();
  printf("%d\n", host[3]);  // BUG: crash
  cudaFree(x);
}
