// The halo of a stencil is read before the barrier.
__global__ void blur(float* out, const float* in) {
  __shared__ float s[66];
  int t = threadIdx.x + 1;
  s[t] = in[t];
  if (threadIdx.x == 0) s[0] = in[0], s[65] = in[65];
  out[t] = s[t - 1] + s[t] + s[t + 1];  // BUG: shared-race
}
int main() {
  static float host[66];
  float* a;
  float* b;
  for (int i = 0; i < 66; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 66 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  blur<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
