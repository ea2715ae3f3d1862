// Launch shapes that the runtime API proposes.
__global__ void number(int* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] = i;
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 3000 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  int grid, block;
  cudaOccupancyMaxPotentialBlockSize(&grid, &block, number, 0, 0);
  number<<<(3000 + block - 1) / block, block>>>(b, 3000);
  cudaDeviceSynchronize();
  static int result[3000];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 3000; i++) bad += !(result[i] == i);
  return bad != 0;
}
