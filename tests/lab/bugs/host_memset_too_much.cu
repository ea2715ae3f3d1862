// cudaMemset beyond the end.
int main() {
  float* d;
  cudaMalloc(&d, 64);
  cudaMemset(d, 0, 64 * sizeof(float));  // BUG: copy-bounds
  cudaFree(d);
}
