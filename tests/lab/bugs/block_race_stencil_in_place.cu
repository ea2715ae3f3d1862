// A stencil over several blocks that writes where others read.
__global__ void smooth(float* x, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i > 0 && i < n - 1) x[i] = (x[i - 1] + x[i] + x[i + 1]) / 3;  // BUG: block-race
}
int main() {
  static float host[256];
  float* a;
  float* b;
  for (int i = 0; i < 256; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  smooth<<<8, 32>>>(a, 256);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
