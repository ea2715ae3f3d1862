// A product of two 16 x 16 matrices on the tensor cores.
#include <mma.h>
using namespace nvcuda;
__global__ void product(float* out, const float* in) {
  __shared__ half x[256], one[256];
  for (int i = threadIdx.x; i < 256; i += 32) {
    x[i] = __float2half(in[i]);
    one[i] = __float2half(i / 16 == i % 16 ? 1.0f : 0.0f);
  }
  __syncwarp();
  wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> a;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> b;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> c;
  wmma::fill_fragment(c, 1.0f);
  wmma::load_matrix_sync(a, x, 16);
  wmma::load_matrix_sync(b, one, 16);
  wmma::mma_sync(c, a, b, c);
  wmma::store_matrix_sync(out, c, 16, wmma::mem_row_major);
}
int main() {
  static float host[256];
  float* a;
  float* b;
  for (int i = 0; i < 256; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 256 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  product<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  static float result[256];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 256; i++) bad += !(result[i] == i + 1);
  return bad != 0;
}
