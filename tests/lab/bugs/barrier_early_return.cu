// Threads beyond the end return before a barrier.
__global__ void guarded(float* out, const float* in, int n) {
  __shared__ float s[64];
  int i = threadIdx.x;
  if (i >= n) return;
  s[i] = in[i];
  __syncthreads();  // BUG: barrier
  out[i] = s[n - 1 - i];
}
int main() {
  static float host[50];
  float* a;
  float* b;
  for (int i = 0; i < 50; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 50 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  guarded<<<1, 64>>>(b, a, 50);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
