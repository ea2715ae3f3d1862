// 64 KiB of dynamic shared memory without cudaFuncSetAttribute.
__global__ void nothing() {}
int main() {
  nothing<<<1, 32, 64 * 1024>>>();  // BUG: launch-limits
  cudaDeviceSynchronize();
}
