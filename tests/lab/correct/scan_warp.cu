// With shuffles and votes.
__global__ void scan(int* out, const int* in) {
  int v = in[threadIdx.x], lane = threadIdx.x & 31;
  for (int step = 1; step < 32; step *= 2) {
    int other = __shfl_up_sync(0xffffffff, v, step);
    if (lane >= step) v += other;
  }
  unsigned odd = __ballot_sync(0xffffffff, v & 1);
  out[threadIdx.x] = v + 1000 * __popc(odd);
}
int main() {
  static int host[32];
  int* a;
  int* b;
  for (int i = 0; i < 32; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  scan<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  static int result[32];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 32; i++) bad += !(result[i] == i * (i + 1) / 2 + 16000);
  return bad != 0;
}
