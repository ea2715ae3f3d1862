// The textbook's tiled product, sizes not a multiple of the tile.
#define TILE 8
__global__ void matmul(float* c, const float* a, const float* b, int n) {
  __shared__ float as[TILE][TILE], bs[TILE][TILE];
  int row = blockIdx.y * TILE + threadIdx.y, col = blockIdx.x * TILE + threadIdx.x;
  float sum = 0;
  for (int k = 0; k < n; k += TILE) {
    as[threadIdx.y][threadIdx.x] = row < n && k + threadIdx.x < n ? a[row * n + k + threadIdx.x] : 0;
    bs[threadIdx.y][threadIdx.x] = col < n && k + threadIdx.y < n ? b[(k + threadIdx.y) * n + col] : 0;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < TILE; j++) sum += as[threadIdx.y][j] * bs[j][threadIdx.x];
    __syncthreads();
  }
  if (row < n && col < n) c[row * n + col] = sum;
}
__global__ void identity(float* x, int n) { x[threadIdx.x] = threadIdx.x / n == threadIdx.x % n; }
int main() {
  static float host[400];
  float* a;
  float* b;
  for (int i = 0; i < 400; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 400 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  float* one;
  cudaMalloc(&one, 1600);
  identity<<<1, 400>>>(one, 20);
  matmul<<<dim3(3, 3), dim3(TILE, TILE)>>>(b, a, one, 20);
  cudaFree(one);
  cudaDeviceSynchronize();
  static float result[400];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 400; i++) bad += !(result[i] == i);
  return bad != 0;
}
