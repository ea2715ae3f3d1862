// More blocks than are run in order, in three dimensions.
__global__ void number(int* x, int n) {
  int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int i = block * blockDim.x + threadIdx.x;
  if (i < n) x[i] = block;
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 4000 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  number<<<dim3(10, 20, 5), 4>>>(b, 4000);
  cudaDeviceSynchronize();
  static int result[4000];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 4000; i++) bad += !(result[i] == i / 4);
  return bad != 0;
}
