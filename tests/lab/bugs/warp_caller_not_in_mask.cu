// The mask does not name the caller.
__global__ void vote(int* out) {
  out[threadIdx.x] = __ballot_sync(0x0000ffff, threadIdx.x > 3);  // BUG: warp
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  vote<<<1, 32>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
