// Hillis and Steele with two buffers.
__global__ void scan(int* out, const int* in) {
  __shared__ int s[2][64];
  int now = 0, t = threadIdx.x;
  s[0][t] = in[t];
  __syncthreads();
  for (int step = 1; step < 64; step *= 2) {
    s[1 - now][t] = t >= step ? s[now][t] + s[now][t - step] : s[now][t];
    now = 1 - now;
    __syncthreads();
  }
  out[t] = s[now][t];
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  scan<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  static int result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == i * (i + 1) / 2);
  return bad != 0;
}
