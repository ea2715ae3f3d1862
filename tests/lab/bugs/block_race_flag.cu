// Block 0 writes what the others read in the same launch.
__global__ void publish(int* out, int* flag) {
  if (blockIdx.x == 0 && threadIdx.x == 0) flag[0] = 7;
  out[blockIdx.x * 32 + threadIdx.x] = flag[0];  // BUG: block-race
}
int main() {
  static int host[4];
  int* a;
  int* b;
  for (int i = 0; i < 4; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 128 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  publish<<<4, 32>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
