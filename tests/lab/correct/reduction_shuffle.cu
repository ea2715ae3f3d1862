// By warps, then by the first warp.
__global__ void sum(int* out, const int* in) {
  __shared__ int partial[4];
  int v = in[threadIdx.x];
  for (int step = 16; step > 0; step /= 2) v += __shfl_down_sync(0xffffffff, v, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x < 4) {
    v = partial[threadIdx.x];
    for (int step = 2; step > 0; step /= 2) v += __shfl_down_sync(0xf, v, step);
    if (threadIdx.x == 0) *out = v;
  }
}
int main() {
  static int host[128];
  int* a;
  int* b;
  for (int i = 0; i < 128; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  sum<<<1, 128>>>(b, a);
  cudaDeviceSynchronize();
  static int result[1];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 1; i++) bad += !(result[0] == 127 * 64);
  return bad != 0;
}
