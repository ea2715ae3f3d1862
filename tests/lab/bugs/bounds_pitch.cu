// Rows have a pitch, which the kernel ignores.
__global__ void fill(float* out, int width, int height) {
  if (threadIdx.x < width)
    for (int y = 0; y <= height; y++) out[y * width + threadIdx.x] = y;  // BUG: out-of-bounds
}
int main() {
  static float host[1];
  float* a;
  float* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 128 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  fill<<<1, 32>>>(b, 32, 4);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
