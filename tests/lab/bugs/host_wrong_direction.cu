// From host to device, and the direction says otherwise.
int main() {
  int h[16] = {}, *d;
  cudaMalloc(&d, sizeof(h));
  cudaMemcpy(d, h, sizeof(h), cudaMemcpyDeviceToHost);  // BUG: copy-direction
  cudaFree(d);
}
