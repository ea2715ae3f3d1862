// A sum in shared memory that starts with garbage.
__global__ void sum(int* out) {
  __shared__ int total;
  atomicAdd(&total, 1);  // BUG: uninitialised-shared
  __syncthreads();
  if (threadIdx.x == 0) *out = total;  // BUG: uninitialised-shared
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  sum<<<1, 64>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
