// A loop with a barrier that threads leave at different times.
__global__ void loops(int* out) {
  for (int k = 0; k < threadIdx.x / 32 + 1; k++) {
    out[threadIdx.x] = k;
    __syncthreads();  // BUG: barrier
  }
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 96 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  loops<<<1, 96>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
