// Dynamic shared memory, reversed without a barrier.
__global__ void reverse(int* out, const int* in) {
  extern __shared__ int s[];
  s[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];  // BUG: shared-race
}
int main() {
  static int host[96];
  int* a;
  int* b;
  for (int i = 0; i < 96; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 96 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  reverse<<<1, 96, 96 * sizeof(int)>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
