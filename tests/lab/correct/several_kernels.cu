// A buffer that goes from kernel to kernel, and copies on the device.
__global__ void fill(int* x) { x[threadIdx.x] = threadIdx.x; }
__global__ void add(int* y, const int* x) { y[threadIdx.x] = x[threadIdx.x] + x[63 - threadIdx.x]; }
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  int* c;
  cudaMalloc(&c, 256);
  fill<<<1, 64>>>(c);
  cudaMemcpy(a, c, 256, cudaMemcpyDeviceToDevice);
  add<<<1, 64>>>(b, a);
  cudaFree(c);
  cudaDeviceSynchronize();
  static int result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 63);
  return bad != 0;
}
