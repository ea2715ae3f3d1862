// The last block adds up, after a fence.
__device__ unsigned done = 0;
__global__ void sum(volatile int* partial, int* out, const int* in) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    int s = 0;
    for (int i = 0; i < 32; i++) s += in[blockIdx.x * 32 + i];
    partial[blockIdx.x] = s;
    __threadfence();
    last = atomicAdd(&done, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    int s = 0;
    for (int i = 0; i < gridDim.x; i++) s += partial[i];
    *out = s;
  }
}
int main() {
  static int host[256];
  int* a;
  int* b;
  for (int i = 0; i < 256; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  int* partial;
  cudaMalloc(&partial, 32);
  sum<<<8, 32>>>(partial, b, a);
  cudaFree(partial);
  cudaDeviceSynchronize();
  static int result[1];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 1; i++) bad += !(result[0] == 255 * 128);
  return bad != 0;
}
