// cp.async as inline PTX, committed and not waited for.
__global__ void stage(float* out, const float* in) {
  __shared__ __align__(16) float s[128];
  unsigned at = (unsigned)__cvta_generic_to_shared(&s[4 * threadIdx.x]);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16;\n" ::"r"(at), "l"(&in[4 * threadIdx.x]));
  asm volatile("cp.async.commit_group;\n" ::);
  __syncthreads();
  out[threadIdx.x] = s[127 - threadIdx.x];  // BUG: uninitialised-shared
}
int main() {
  static float host[128];
  float* a;
  float* b;
  for (int i = 0; i < 128; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  stage<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
