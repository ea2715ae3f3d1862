// The stage that is filled is the one that is read.
__global__ void stages(float* out, const float* in) {
  __shared__ float buffer[2][64];
  float sum = 0;
  buffer[0][threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  for (int k = 0; k < 3; k++) {
    buffer[k % 2][threadIdx.x] = in[(k + 1) * 64 + threadIdx.x];  // BUG: shared-race
    sum += buffer[k % 2][63 - threadIdx.x];
    __syncthreads();
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
  stages<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
