// x[i + 1] at the last element.
__global__ void slope(float* out, const float* in, int n) {
  int i = threadIdx.x;
  if (i < n) out[i] = in[i + 1] - in[i];  // BUG: out-of-bounds
}
int main() {
  static float host[64];
  float* a;
  float* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  slope<<<1, 64>>>(b, a, 64);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
