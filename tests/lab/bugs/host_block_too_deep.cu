// More than 64 threads in z.
__global__ void nothing() {}
int main() {
  nothing<<<1, dim3(1, 1, 128)>>>();  // BUG: launch-limits
  cudaDeviceSynchronize();
}
