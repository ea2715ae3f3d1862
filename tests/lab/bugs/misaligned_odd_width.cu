// Rows of 5 floats are read as float2.
__global__ void pairs(float* out, const float* in) {
  const float2* row = reinterpret_cast<const float2*>(in + threadIdx.x * 5);
  float2 v = *row;  // BUG: misaligned
  out[threadIdx.x] = v.x * v.y;
}
int main() {
  static float host[160];
  float* a;
  float* b;
  for (int i = 0; i < 160; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  pairs<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
