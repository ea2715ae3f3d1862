// Two phases over all blocks without a barrier of the grid between.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
__global__ void phases(int* x, int n) {
  int i = cg::this_grid().thread_rank();
  x[i] = i;
  cg::this_thread_block().sync();
  int v = x[(i + 32) % n];  // BUG: block-race uninitialised-device
  cg::this_grid().sync();
  x[i] = v;
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 128 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  int n = 128;
  void* args[] = {&b, &n};
  cudaLaunchCooperativeKernel((void*)phases, 4, 32, args);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
