// A tile's sync that some of its threads never reach.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
__global__ void tiles(int* out) {
  auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  if (tile.thread_rank() < 4)
    out[threadIdx.x] = tile.shfl(threadIdx.x, 0);  // BUG: warp deadlock
  else
    tile.sync();  // BUG: warp deadlock
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  tiles<<<1, 32>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
