// The kernel stops itself.
__global__ void check(const int* x) {
  if (x[threadIdx.x] == 40) __trap();  // BUG: trap
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  check<<<1, 64>>>(a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
