// A tree reduction without a barrier in its loop.
__global__ void sum(float* out, const float* in) {
  __shared__ float s[128];
  s[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  for (int step = 64; step > 0; step /= 2)
    if (threadIdx.x < step) s[threadIdx.x] += s[threadIdx.x + step];  // BUG: shared-race
  if (threadIdx.x == 0) *out = s[0];
}
int main() {
  static float host[128];
  float* a;
  float* b;
  for (int i = 0; i < 128; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  sum<<<1, 128>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
