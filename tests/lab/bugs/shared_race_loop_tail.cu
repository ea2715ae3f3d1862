// A tile is filled again while other threads still read it.
__global__ void rows(float* out, const float* in) {
  __shared__ float row[64];
  float sum = 0;
  for (int k = 0; k < 4; k++) {
    row[threadIdx.x] = in[k * 64 + threadIdx.x];  // BUG: shared-race
    __syncthreads();
    sum += row[63 - threadIdx.x];
  }
  out[threadIdx.x] = sum;
}
int main() {
  static float host[256];
  float* a;
  float* b;
  for (int i = 0; i < 256; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  rows<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
