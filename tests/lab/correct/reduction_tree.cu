// A tree in shared memory, an atomic for the blocks.
__global__ void sum(int* out, const int* in) {
  __shared__ int s[128];
  s[threadIdx.x] = in[blockIdx.x * 128 + threadIdx.x];
  __syncthreads();
  for (int step = 64; step > 0; step /= 2) {
    if (threadIdx.x < step) s[threadIdx.x] += s[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) atomicAdd(out, s[0]);
}
int main() {
  static int host[512];
  int* a;
  int* b;
  for (int i = 0; i < 512; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  cudaMemset(b, 0, 4);
  sum<<<4, 128>>>(b, a);
  cudaDeviceSynchronize();
  static int result[1];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 1; i++) bad += !(result[0] == 511 * 256);
  return bad != 0;
}
