// Source and destination are exchanged.
int main() {
  int h[16] = {}, *d;
  cudaMalloc(&d, sizeof(h));
  cudaMemset(d, 0, sizeof(h));
  cudaMemcpy(d, h, sizeof(h), cudaMemcpyDeviceToDevice);  // BUG: copy-direction
  cudaFree(d);
}
