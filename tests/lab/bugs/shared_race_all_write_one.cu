// Every thread writes the same word.
__global__ void last(int* out) {
  __shared__ int s;
  s = threadIdx.x;  // BUG: shared-race
  __syncthreads();
  if (threadIdx.x == 0) *out = s;
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  last<<<1, 64>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
