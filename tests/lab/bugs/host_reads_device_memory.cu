// The host follows a device pointer.
int main() {
  int* d;
  cudaMalloc(&d, 64);
  cudaMemset(d, 0, 64);
  int v = d[3];  // BUG: host-access
  cudaFree(d);
  return v;
}
