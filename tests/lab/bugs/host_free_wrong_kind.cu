// Pinned memory released as if it were the device's.
int main() {
  float* h;
  cudaMallocHost(&h, 1024);
  cudaFree(h);  // BUG: invalid-free
  cudaFreeHost(h);
}
