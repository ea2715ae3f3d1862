// More bytes than the buffer has.
int main() {
  static float h[100];
  float* d;
  cudaMalloc(&d, 64 * sizeof(float));
  cudaMemcpy(d, h, 100 * sizeof(float), cudaMemcpyHostToDevice);  // BUG: copy-bounds
  cudaFree(d);
}
