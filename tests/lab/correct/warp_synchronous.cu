// A warp's sum in shared memory, with __syncwarp.
__global__ void sum(int* out, const int* in) {
  __shared__ int s[64];
  int t = threadIdx.x;
  s[t] = in[t];
  __syncwarp();
  for (int step = 16; step > 0; step /= 2) {
    int v = (t & 31) < step ? s[t + step] : 0;
    __syncwarp();
    s[t] += v;
    __syncwarp();
  }
  if ((t & 31) == 0) out[t / 32] = s[t];
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 2 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  sum<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  static int result[2];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 2; i++) bad += !(result[i] == (i ? 1520 : 496));
  return bad != 0;
}
