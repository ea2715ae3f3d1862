// The ranges of neighbouring blocks overlap by one element.
__global__ void fill(int* out) {
  for (int i = threadIdx.x; i <= 64; i += 32) out[blockIdx.x * 64 + i] = blockIdx.x;  // BUG: block-race
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 257 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  fill<<<4, 32>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
