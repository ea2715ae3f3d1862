// Through a padded tile.
__global__ void transpose(float* out, const float* in, int n) {
  __shared__ float tile[16][17];
  int x = blockIdx.x * 16 + threadIdx.x, y = blockIdx.y * 16 + threadIdx.y;
  tile[threadIdx.y][threadIdx.x] = in[y * n + x];
  __syncthreads();
  out[(blockIdx.x * 16 + threadIdx.y) * n + blockIdx.y * 16 + threadIdx.x] = tile[threadIdx.x][threadIdx.y];
}
int main() {
  static float host[1024];
  float* a;
  float* b;
  for (int i = 0; i < 1024; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1024 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  transpose<<<dim3(2, 2), dim3(16, 16)>>>(b, a, 32);
  cudaDeviceSynchronize();
  static float result[1024];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 1024; i++) bad += !(result[i] == i % 32 * 32 + i / 32);
  return bad != 0;
}
