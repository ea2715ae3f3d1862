// Managed memory is read while the kernel may still run.
__global__ void fill(int* x) { x[threadIdx.x] = 1; }
int main() {
  int* x;
  cudaMallocManaged(&x, 64 * sizeof(int));
  fill<<<1, 64>>>(x);
  int first = x[0];  // BUG: missing-synchronisation
  cudaDeviceSynchronize();
  cudaFree(x);
  return first - 1;
}
