// Released twice.
int main() {
  float* d;
  cudaMalloc(&d, 1024);
  cudaFree(d);
  cudaFree(d);  // BUG: invalid-free
}
