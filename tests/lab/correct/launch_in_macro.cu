// A launch inside of a macro, over several lines.
#define LAUNCH(kernel, n, ...)            \
  do {                                    \
    int blocks = ((n) + 63) / 64;         \
    kernel<<<blocks, 64>>>(__VA_ARGS__,   \
                           n);            \
  } while (0)
__global__ void number(int* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] = i;
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 100 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  LAUNCH(number, 100, b);
  cudaDeviceSynchronize();
  static int result[100];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 100; i++) bad += !(result[i] == i);
  return bad != 0;
}
