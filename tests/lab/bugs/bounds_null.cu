// A null pointer.
__global__ void fill(int* out) {
  out[threadIdx.x] = 1;  // BUG: null-pointer
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  int* nothing = NULL;
  fill<<<1, 64>>>(nothing);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
