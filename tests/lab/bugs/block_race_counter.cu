// One thread of each block adds to one word.
__global__ void count(int* out) {
  if (threadIdx.x == 0) out[0] += 1;  // BUG: block-race
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  cudaMemset(b, 0, 4);
  count<<<8, 32>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
