// Device memory that nothing has written.
__global__ void add_one(float* x) {
  x[threadIdx.x] += 1;  // BUG: uninitialised-device
}
int main() {
  static float host[1];
  float* a;
  float* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  add_one<<<1, 64>>>(b);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
