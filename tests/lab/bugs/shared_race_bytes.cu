// Two threads write one byte of shared memory.
__global__ void marks(int* out) {
  __shared__ unsigned char seen[32];
  seen[threadIdx.x / 2] = threadIdx.x;  // BUG: shared-race
  __syncthreads();
  if (threadIdx.x < 32) out[threadIdx.x] = seen[threadIdx.x];
}
int main() {
  static int host[32];
  int* a;
  int* b;
  for (int i = 0; i < 32; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  marks<<<1, 64>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
