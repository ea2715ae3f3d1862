// Row and column are exchanged in a matrix that is not square.
__global__ void copy(float* out, const float* in, int rows, int columns) {
  int r = threadIdx.y, c = threadIdx.x;
  if (r < rows && c < columns) out[c * rows + r] = in[c * columns + r];  // BUG: out-of-bounds
}
int main() {
  static float host[96];
  float* a;
  float* b;
  for (int i = 0; i < 96; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 96 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  copy<<<1, dim3(12, 8)>>>(b, a, 8, 12);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
