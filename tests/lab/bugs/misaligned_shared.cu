// An int4 at an unaligned place of shared memory.
__global__ void stage(int* out) {
  __shared__ int s[64];
  s[threadIdx.x] = threadIdx.x;
  __syncthreads();
  int4 v = *reinterpret_cast<int4*>(&s[threadIdx.x % 8 + 1]);  // BUG: misaligned
  out[threadIdx.x] = v.x + v.w;
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  stage<<<1, 64>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
