// An asynchronous copy is read before its stream was waited for.
__global__ void fill(int* x) { x[threadIdx.x] = 1; }
int main() {
  int *d, *h;
  cudaStream_t stream;
  cudaStreamCreate(&stream);
  cudaMalloc(&d, 256);
  cudaMallocHost(&h, 256);
  fill<<<1, 64, 0, stream>>>(d);
  cudaMemcpyAsync(h, d, 256, cudaMemcpyDeviceToHost, stream);
  int first = h[0];  // BUG: missing-synchronisation
  cudaStreamSynchronize(stream);
  cudaFree(d);
  cudaFreeHost(h);
  cudaStreamDestroy(stream);
  return first - 1;
}
