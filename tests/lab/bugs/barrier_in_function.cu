// A function with a barrier, called under a condition.
__device__ void wait_here(int* s) {
  s[threadIdx.x] = 1;
  __syncthreads();  // BUG: barrier
}
__global__ void caller(int* out) {
  __shared__ int s[64];
  if (threadIdx.x != 13) wait_here(s);
  out[threadIdx.x] = 0;
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  caller<<<1, 64>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
