// A float4 at the second float.
__global__ void load(float* out, const float* in) {
  float4 v = *reinterpret_cast<const float4*>(in + 1);  // BUG: misaligned
  out[threadIdx.x] = v.x + v.y + v.z + v.w;
}
int main() {
  static float host[64];
  float* a;
  float* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  load<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
