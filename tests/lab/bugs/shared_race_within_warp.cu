// One warp, but no __syncwarp: since Volta lanes need not run in step.
__global__ void sum(float* out, const float* in) {
  __shared__ float s[32];
  s[threadIdx.x] = in[threadIdx.x];
  __syncwarp();
  for (int step = 16; step > 0; step /= 2)
    if (threadIdx.x < step) s[threadIdx.x] += s[threadIdx.x + step];  // BUG: shared-race
  if (threadIdx.x == 0) *out = s[0];
}
int main() {
  static float host[32];
  float* a;
  float* b;
  for (int i = 0; i < 32; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  sum<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
