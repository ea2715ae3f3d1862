// A lock that one thread of each block takes.
__device__ int lock = 0;
__global__ void locked(int* x) {
  if (threadIdx.x == 0) {
    while (atomicCAS(&lock, 0, 1) != 0) {
    }
    __threadfence();
    atomicAdd(x, 1);
    __threadfence();
    atomicExch(&lock, 0);
  }
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  cudaMemset(b, 0, 4);
  locked<<<6, 32>>>(b);
  cudaDeviceSynchronize();
  static int result[1];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 1; i++) bad += !(result[0] == 6);
  return bad != 0;
}
