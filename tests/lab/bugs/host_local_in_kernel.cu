// A kernel gets the address of a local variable of the host.
__global__ void fill(int* x) {
  *x = 1;  // BUG: host-pointer
}
int main() {
  int local = 0;
  fill<<<1, 1>>>(&local);
  cudaDeviceSynchronize();
  return local;
}
