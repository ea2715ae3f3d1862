// The race is in a device function that two kernels' threads call.
__device__ float mean(const float* s, int t) { return 0.5f * (s[t] + s[t ^ 33]); }  // BUG: shared-race
__global__ void smooth(float* out, const float* in) {
  __shared__ float s[64];
  s[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = mean(s, threadIdx.x);
}
int main() {
  static float host[64];
  float* a;
  float* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  smooth<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
