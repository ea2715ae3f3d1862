// Two streams with pinned memory, copies and events.
__global__ void scale(float* x, float f, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] *= f;
}
int main() {
  const int n = 200;
  float *h[2], *d[2];
  cudaStream_t stream[2];
  cudaEvent_t start, stop;
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  cudaEventRecord(start);
  for (int k = 0; k < 2; k++) {
    cudaStreamCreate(&stream[k]);
    cudaMallocHost(&h[k], n * sizeof(float));
    cudaMalloc(&d[k], n * sizeof(float));
    for (int i = 0; i < n; i++) h[k][i] = i;
    cudaMemcpyAsync(d[k], h[k], n * sizeof(float), cudaMemcpyHostToDevice, stream[k]);
    scale<<<2, 128, 0, stream[k]>>>(d[k], k + 2.0f, n);
    cudaMemcpyAsync(h[k], d[k], n * sizeof(float), cudaMemcpyDeviceToHost, stream[k]);
  }
  for (int k = 0; k < 2; k++) cudaStreamSynchronize(stream[k]);
  cudaEventRecord(stop);
  cudaEventSynchronize(stop);
  float ms = -1;
  cudaEventElapsedTime(&ms, start, stop);
  int bad = ms < 0;
  for (int k = 0; k < 2; k++) {
    for (int i = 0; i < n; i++) bad += h[k][i] != i * (k + 2.0f);
    cudaFreeHost(h[k]);
    cudaFree(d[k]);
    cudaStreamDestroy(stream[k]);
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  return bad;
}
