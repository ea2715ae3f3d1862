// More elements than threads.
__global__ void square(float* out, const float* in, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x) out[i] = in[i] * in[i];
}
int main() {
  static float host[1000];
  float* a;
  float* b;
  for (int i = 0; i < 1000; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1000 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  square<<<3, 32>>>(b, a, 1000);
  cudaDeviceSynchronize();
  static float result[1000];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 1000; i++) bad += !(result[i] == (float)i * i);
  return bad != 0;
}
