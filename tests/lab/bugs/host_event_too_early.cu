// The event that the host waits for stands before the copy.
#include <cstdio>

__global__ void fill(float* a) { a[blockIdx.x * blockDim.x + threadIdx.x] = 1; }

int main() {
  float *a, *d;
  cudaMallocHost(&a, 1024 * sizeof(float));
  cudaMalloc(&d, 1024 * sizeof(float));
  cudaStream_t stream;
  cudaStreamCreate(&stream);
  cudaEvent_t event;
  cudaEventCreate(&event);
  fill<<<4, 256, 0, stream>>>(d);
  cudaEventRecord(event, stream);
  cudaMemcpyAsync(a, d, 1024 * sizeof(float), cudaMemcpyDeviceToHost, stream);
  cudaEventSynchronize(event);
  printf("%g\n", a[0]);  // BUG: missing-synchronisation
  cudaStreamSynchronize(stream);
  cudaStreamDestroy(stream);
  cudaEventDestroy(event);
  cudaFree(d);
  cudaFreeHost(a);
}
