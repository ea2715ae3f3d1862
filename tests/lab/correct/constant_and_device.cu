// Constant memory, a device array and a device counter.
__constant__ int weights[4];
__device__ int table[4] = {1, 2, 3, 4};
__device__ int counter;
__global__ void weigh(int* out) {
  out[threadIdx.x] = weights[threadIdx.x % 4] * table[threadIdx.x % 4];
  atomicAdd(&counter, 1);
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  int w[4] = {10, 20, 30, 40};
  cudaMemcpyToSymbol(weights, w, sizeof(w));
  weigh<<<1, 64>>>(b);
  int n;
  cudaMemcpyFromSymbol(&n, counter, sizeof(n));
  if (n != 64) return 2;
  cudaDeviceSynchronize();
  static int result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 10 * (i % 4 + 1) * (i % 4 + 1));
  return bad != 0;
}
