// More threads than __launch_bounds__ promised.
__global__ void __launch_bounds__(128) nothing() {}
int main() {
  nothing<<<1, 256>>>();  // BUG: launch-limits
  cudaDeviceSynchronize();
}
