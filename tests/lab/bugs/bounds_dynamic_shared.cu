// Less dynamic shared memory than the kernel uses.
__global__ void stage(int* out, const int* in) {
  extern __shared__ int s[];
  s[threadIdx.x] = in[threadIdx.x];  // BUG: shared-out-of-bounds
  out[threadIdx.x] = s[threadIdx.x];
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  stage<<<1, 64, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
