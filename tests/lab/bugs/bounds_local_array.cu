// An index beyond a local array.
__global__ void table(int* out, const int* in) {
  int small[4] = {1, 2, 3, 4};
  for (int k = 0; k < 4; k++) small[k] += in[k];
  out[threadIdx.x] = small[in[threadIdx.x] % 8];  // BUG: index
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  table<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
