// Lanes of one mask meet in different operations.
__global__ void mixed(int* out) {
  if (threadIdx.x % 2)
    out[threadIdx.x] = __any_sync(0xffffffff, threadIdx.x == 5);  // BUG: warp
  else
    out[threadIdx.x] = __all_sync(0xffffffff, threadIdx.x == 5);  // BUG: warp
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  mixed<<<1, 32>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
