// Thread 0 prepares a value, the others do not wait for it.
__global__ void scale(float* out, const float* in) {
  __shared__ float factor;
  if (threadIdx.x == 0) factor = in[0];
  out[threadIdx.x] = in[threadIdx.x] * factor;  // BUG: shared-race
}
int main() {
  static float host[64];
  float* a;
  float* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  scale<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
