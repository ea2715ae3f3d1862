// An address inside of an allocation is released.
int main() {
  float* d;
  cudaMalloc(&d, 1024);
  cudaFree(d + 4);  // BUG: invalid-free
  cudaFree(d);
}
