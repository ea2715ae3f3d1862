// cudaMalloc was given elements instead of bytes.
__global__ void fill(float* out, int n) {
  if (threadIdx.x < n) out[threadIdx.x] = 1;  // BUG: out-of-bounds
}
int main() {
  static char host[1];
  char* a;
  char* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(char));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  fill<<<1, 64>>>((float*)b, 64);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
