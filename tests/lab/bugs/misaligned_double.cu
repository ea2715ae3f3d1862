// A double at an odd float.
__global__ void store(float* out) {
  *reinterpret_cast<double*>(out + 1 + 2 * threadIdx.x) = 1.0;  // BUG: misaligned
}
int main() {
  static float host[1];
  float* a;
  float* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 128 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  store<<<1, 32>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
