// Some threads of a block leave before the grid's barrier.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
__global__ void phases(int* x) {
  if (threadIdx.x >= 48) return;
  x[blockIdx.x * 64 + threadIdx.x] = 1;
  cg::this_grid().sync();  // BUG: barrier
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 128 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  void* args[] = {&b};
  cudaLaunchCooperativeKernel((void*)phases, 2, 64, args);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
