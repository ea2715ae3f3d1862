// The memory has been released.
__global__ void fill(int* out) {
  out[threadIdx.x] = 1;  // BUG: out-of-bounds
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  int* old;
  cudaMalloc(&old, 256);
  cudaFree(old);
  fill<<<1, 64>>>(old);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
