// More than 65535 blocks in y.
__global__ void nothing() {}
int main() {
  nothing<<<dim3(1, 70000), 1>>>();  // BUG: launch-limits
  cudaDeviceSynchronize();
}
