// The two branches of an if have a barrier each.
__global__ void branches(int* out) {
  __shared__ int s[64];
  if (threadIdx.x % 2) {
    s[threadIdx.x] = 1;
    __syncthreads();  // BUG: barrier
  } else {
    s[threadIdx.x] = 2;
    __syncthreads();  // BUG: barrier
  }
  out[threadIdx.x] = s[threadIdx.x ^ 1];
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  branches<<<1, 64>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
