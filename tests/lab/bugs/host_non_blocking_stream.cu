// The default stream does not wait for a stream that was created as non-blocking, so neither does its event.
#include <cstdio>

__global__ void fill(float* a) { a[blockIdx.x * blockDim.x + threadIdx.x] = 1; }

int main() {
  float* a;
  cudaMallocManaged(&a, 1024 * sizeof(float));
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaEvent_t event;
  cudaEventCreate(&event);
  fill<<<4, 256, 0, stream>>>(a);
  cudaEventRecord(event);
  cudaEventSynchronize(event);
  printf("%g\n", a[0]);  // BUG: missing-synchronisation
  cudaDeviceSynchronize();
  cudaStreamDestroy(stream);
  cudaEventDestroy(event);
  cudaFree(a);
}
