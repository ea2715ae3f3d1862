// A block exchanges values through device memory without a barrier.
__global__ void exchange(float* out, const float* in) {
  out[threadIdx.x] = in[threadIdx.x];
  float other = out[(threadIdx.x + 32) % 64];  // BUG: device-race
  __syncthreads();
  out[threadIdx.x] = other;
}
int main() {
  static float host[64];
  float* a;
  float* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  cudaMemset(b, 0, 256);
  exchange<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
