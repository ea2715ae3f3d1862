// A shuffle does not order shared memory.
__global__ void exchange(int* out) {
  __shared__ int s[32];
  s[threadIdx.x] = threadIdx.x;
  int v = __shfl_xor_sync(0xffffffff, threadIdx.x, 1);
  out[threadIdx.x] = v + s[31 - threadIdx.x];  // BUG: shared-race
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  exchange<<<1, 32>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
