// cudaMemset clears a quarter: it was given elements instead of bytes.
__global__ void add_one(int* x) {
  x[threadIdx.x] += 1;  // BUG: uninitialised-device
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  cudaMemset(b, 0, 64);
  add_one<<<1, 64>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
