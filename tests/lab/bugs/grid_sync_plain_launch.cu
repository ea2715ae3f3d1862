// grid.sync() in a launch that is not cooperative.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
__global__ void phases(int* x) {
  x[blockIdx.x * 32 + threadIdx.x] = 1;
  cg::this_grid().sync();  // BUG: grid-sync
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  phases<<<2, 32>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
