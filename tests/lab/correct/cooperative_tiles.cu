// Tiles of a warp, their shuffles and reductions.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
namespace cg = cooperative_groups;
__global__ void tiles(int* out, const int* in) {
  cg::thread_block block = cg::this_thread_block();
  cg::thread_block_tile<8> tile = cg::tiled_partition<8>(block);
  int v = in[block.thread_rank()];
  int sum = cg::reduce(tile, v, cg::plus<int>());
  int first = tile.shfl(v, 0);
  block.sync();
  out[threadIdx.x] = sum * 1000 + first + tile.meta_group_rank();
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  tiles<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  static int result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == (i / 8 * 64 + 28) * 1000 + i / 8 * 8 + i / 8);
  return bad != 0;
}
