// A grid of no blocks, from a division that rounds down.
__global__ void nothing() {}
int main() {
  int n = 100;
  nothing<<<n / 256, 256>>>();  // BUG: launch-limits
  cudaDeviceSynchronize();
}
