// A kernel gets memory from malloc.
#include <stdlib.h>
__global__ void fill(int* x) {
  x[threadIdx.x] = 1;  // BUG: host-pointer
}
int main() {
  int* h = (int*)malloc(256);
  fill<<<1, 64>>>(h);
  cudaDeviceSynchronize();
  free(h);
}
