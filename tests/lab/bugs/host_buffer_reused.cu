// A pinned buffer is overwritten while it is being copied.
int main() {
  int *d, *h;
  cudaMalloc(&d, 256);
  cudaMallocHost(&h, 256);
  h[0] = 1;
  cudaMemcpyAsync(d, h, 256, cudaMemcpyHostToDevice);
  h[0] = 2;  // BUG: missing-synchronisation
  cudaDeviceSynchronize();
  cudaFree(d);
  cudaFreeHost(h);
}
