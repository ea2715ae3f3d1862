// 2048 threads in a block.
__global__ void nothing() {}
int main() {
  nothing<<<1, 2048>>>();  // BUG: launch-limits
  cudaDeviceSynchronize();
}
