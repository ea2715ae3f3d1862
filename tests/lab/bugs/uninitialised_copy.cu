// The kernel leaves out what is copied back.
__global__ void every_other(int* out) { out[2 * threadIdx.x] = 1; }
int main() {
  int *b, h[64];
  cudaMalloc(&b, sizeof(h));
  every_other<<<1, 32>>>(b);
  cudaMemcpy(h, b, sizeof(h), cudaMemcpyDeviceToHost);  // BUG: uninitialised-copy
  cudaFree(b);
}
