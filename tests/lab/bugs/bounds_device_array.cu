// An index beyond a __device__ array.
__device__ float table[16];
__global__ void look(float* out) {
  out[threadIdx.x] = table[threadIdx.x];  // BUG: index
}
int main() {
  static float host[1];
  float* a;
  float* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  look<<<1, 32>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
