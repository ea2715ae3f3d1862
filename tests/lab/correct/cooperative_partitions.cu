// Groups of lanes with the same label.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
namespace cg = cooperative_groups;
__global__ void parts(int* out) {
  auto tile = cg::tiled_partition<32>(cg::this_thread_block());
  auto part = cg::binary_partition(tile, threadIdx.x % 3 == 0);
  out[threadIdx.x] = cg::reduce(part, 1, cg::plus<int>()) * 100 + part.thread_rank();
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  parts<<<1, 32>>>(b);
  cudaDeviceSynchronize();
  static int result[32];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 32; i++) bad += !(result[i] == (i % 3 == 0 ? 1100 + i / 3 : 2100 + i - 1 - i / 3));
  return bad != 0;
}
