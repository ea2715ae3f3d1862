// The first kernel.
__global__ void saxpy(float* y, const float* x, float a, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}
int main() {
  static float host[1000];
  float* a;
  float* b;
  for (int i = 0; i < 1000; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1000 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  cudaMemset(b, 0, 4000);
  saxpy<<<(1000 + 255) / 256, 256>>>(b, a, 2.0f, 1000);
  cudaDeviceSynchronize();
  static float result[1000];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 1000; i++) bad += !(result[i] == 2 * i);
  return bad != 0;
}
