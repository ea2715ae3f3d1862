// A matrix product that only half of a warp takes part in.
#include <mma.h>
using namespace nvcuda;
__global__ void product(half* a, float* c) {
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
  wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> x;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> y;
  wmma::fill_fragment(sum, 0.0f);
  if (threadIdx.x < 16) {
    wmma::load_matrix_sync(x, a, 16);  // BUG: warp deadlock
    wmma::load_matrix_sync(y, a, 16);
    wmma::mma_sync(sum, x, y, sum);
  }
  __syncwarp();  // BUG: warp deadlock
}
int main() {
  static short host[256];
  short* a;
  float* b;
  for (int i = 0; i < 256; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 256 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  cudaMemset(a, 0, 512);
  product<<<1, 32>>>((half*)a, b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
