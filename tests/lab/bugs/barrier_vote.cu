// __syncthreads_count under a condition.
__global__ void vote(int* out) {
  if (threadIdx.x >= 16) out[threadIdx.x] = __syncthreads_count(threadIdx.x & 1);  // BUG: barrier
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  vote<<<1, 64>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
