// All threads of a block add to one word of device memory.
__global__ void count(int* out) {
  out[0] = out[0] + 1;  // BUG: device-race
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
  count<<<1, 128>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
