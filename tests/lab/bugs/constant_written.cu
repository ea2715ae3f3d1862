// A kernel writes constant memory.
__constant__ float weights[8];
__global__ void spoil() {
  const_cast<float*>(weights)[threadIdx.x] = 1;  // BUG: read-only
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  spoil<<<1, 8>>>();
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
