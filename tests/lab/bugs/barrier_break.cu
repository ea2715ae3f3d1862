// One thread leaves the loop before its barrier.
__global__ void search(int* out, const int* in) {
  for (int k = 0; k < 4; k++) {
    if (in[k * 64 + threadIdx.x] == 77) break;
    __syncthreads();  // BUG: barrier
  }
  out[threadIdx.x] = 1;
}
int main() {
  static int host[256];
  int* a;
  int* b;
  for (int i = 0; i < 256; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  search<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
