// Branches, early returns and loops that no barrier is in.
__global__ void collatz(int* out, const int* in, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int steps = 0;
  for (long v = in[i] + 1; v != 1; steps++) v = v % 2 ? 3 * v + 1 : v / 2;
  out[i] = steps;
}
int main() {
  static int host[100];
  int* a;
  int* b;
  for (int i = 0; i < 100; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 100 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  collatz<<<2, 64>>>(b, a, 100);
  cudaDeviceSynchronize();
  static int result[100];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 100; i++) bad += !(result[i] >= 0 && (i != 26 || result[i] == 111));
  return bad != 0;
}
