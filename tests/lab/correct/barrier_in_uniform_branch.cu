// A barrier under a condition that all threads of a block share.
__global__ void maybe(int* out, const int* in, int flag) {
  __shared__ int s[64];
  if (flag) {
    s[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = s[63 - threadIdx.x];
  } else {
    out[threadIdx.x] = 0;
  }
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  maybe<<<1, 64>>>(b, a, 1);
  cudaDeviceSynchronize();
  static int result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 63 - i);
  return bad != 0;
}
