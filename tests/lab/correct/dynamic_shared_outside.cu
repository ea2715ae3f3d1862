// Declared outside of the kernels, and more than 48 KiB.
extern __shared__ double room[];
__global__ void reverse(double* out, const double* in, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) room[i] = in[i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) out[i] = room[n - 1 - i];
}
int main() {
  static double host[7000];
  double* a;
  double* b;
  for (int i = 0; i < 7000; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 7000 * sizeof(double));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  cudaFuncSetAttribute(reverse, cudaFuncAttributeMaxDynamicSharedMemorySize, 56000);
  reverse<<<1, 128, 56000>>>(b, a, 7000);
  cudaDeviceSynchronize();
  static double result[7000];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 7000; i++) bad += !(result[i] == 6999 - i);
  return bad != 0;
}
