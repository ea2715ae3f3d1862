// A scan in place: read and write of one step are not separated.
__global__ void scan(int* out, const int* in) {
  __shared__ int s[64];
  s[threadIdx.x] = in[threadIdx.x];
  for (int step = 1; step < 64; step *= 2) {
    __syncthreads();
    if (threadIdx.x >= step) s[threadIdx.x] += s[threadIdx.x - step];  // BUG: shared-race
  }
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
  scan<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
