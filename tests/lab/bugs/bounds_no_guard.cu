// More threads than elements, and no guard.
__global__ void square(float* out, const float* in, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = in[i] * in[i];  // BUG: out-of-bounds
}
int main() {
  static float host[100];
  float* a;
  float* b;
  for (int i = 0; i < 100; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 100 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  square<<<1, 128>>>(b, a, 100);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
