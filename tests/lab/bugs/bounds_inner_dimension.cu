// tile[0][32] of [8][32]: inside of the array, but another row's.
__global__ void rows(float* out, const float* in) {
  __shared__ float tile[8][32];
  int t = threadIdx.x;
  tile[t / 32][t % 32] = in[t];
  __syncthreads();
  out[t] = tile[t / 32][t % 32 + 1];  // BUG: index
}
int main() {
  static float host[256];
  float* a;
  float* b;
  for (int i = 0; i < 256; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 256 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  rows<<<1, 256>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
