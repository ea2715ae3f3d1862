// An extended lambda as a kernel's argument.
template <typename F>
__global__ void for_each(int n, F f) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) f(i);
}
int main() {
  static int host[100];
  int* a;
  int* b;
  for (int i = 0; i < 100; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 100 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  for_each<<<2, 64>>>(100, [=] __device__(int i) { b[i] = a[i] + 1;
  });
  cudaDeviceSynchronize();
  static int result[100];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 100; i++) bad += !(result[i] == i + 1);
  return bad != 0;
}
