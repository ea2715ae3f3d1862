// Phases over all blocks, with the grid's barrier.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
__global__ void rotate(int* x, int n) {
  cg::grid_group grid = cg::this_grid();
  int i = grid.thread_rank();
  x[i] = i;
  for (int k = 0; k < 3; k++) {
    grid.sync();
    int v = x[(i + 33) % n];
    grid.sync();
    x[i] = v;
  }
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
  cudaLaunchCooperativeKernel((void*)rotate, 4, 32, args);
  cudaDeviceSynchronize();
  static int result[128];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 128; i++) bad += !(result[i] == (i + 99) % 128);
  return bad != 0;
}
