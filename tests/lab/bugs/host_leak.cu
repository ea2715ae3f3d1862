// An allocation that is never released.
int main() {
  float* d;
  cudaMalloc(&d, 1024);  // BUG: leak
  cudaMemset(d, 0, 1024);
}
