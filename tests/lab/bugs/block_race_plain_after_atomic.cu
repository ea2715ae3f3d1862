// Another block's atomic and a plain store to the same word.
__global__ void both(int* out) {
  if (blockIdx.x % 2 == 0)
    atomicAdd(&out[0], 1);  // BUG: block-race
  else
    out[0] = 5;  // BUG: block-race
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
  both<<<8, 1>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
