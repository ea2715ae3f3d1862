// Arrays of a thread, recursion, a switch.
__device__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
__global__ void mix(int* out, const int* in) {
  int small[8];
  for (int k = 0; k < 8; k++) small[k] = in[threadIdx.x] + k;
  switch (threadIdx.x % 3) {
    case 0: small[0] += 1; break;
    case 1: small[1] += fibonacci(10); break;
    default: break;
  }
  out[threadIdx.x] = small[0] + small[1];
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  mix<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  static int result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 2 * i + 1 + (i % 3 == 0 ? 1 : i % 3 == 1 ? 55 : 0));
  return bad != 0;
}
