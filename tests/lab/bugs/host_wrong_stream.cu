// The host waits for another stream.
__global__ void fill(int* x) { x[threadIdx.x] = 1; }
int main() {
  int* x;
  cudaStream_t one, two;
  cudaStreamCreate(&one);
  cudaStreamCreate(&two);
  cudaMallocManaged(&x, 256);
  fill<<<1, 64, 0, one>>>(x);
  cudaStreamSynchronize(two);
  int first = x[0];  // BUG: missing-synchronisation
  cudaDeviceSynchronize();
  cudaFree(x);
  cudaStreamDestroy(one);
  cudaStreamDestroy(two);
  return first - 1;
}
