// A macro around every call; an error that the program handles.
#include <cstdio>
#include <cstdlib>
#define CHECK(call)                                                                     \
  do {                                                                                  \
    cudaError_t error = (call);                                                         \
    if (error != cudaSuccess) {                                                         \
      fprintf(stderr, "%s at %s:%d\n", cudaGetErrorString(error), __FILE__, __LINE__);  \
      exit(1);                                                                          \
    }                                                                                   \
  } while (0)
__global__ void one(int* x) { *x = 1; }
int main() {
  int *x, h = 0, count = 0;
  void* large = nullptr;
  if (cudaMalloc(&large, 1ull << 50) == cudaSuccess) return 1;
  cudaGetLastError();
  CHECK(cudaGetDeviceCount(&count));
  cudaDeviceProp prop;
  CHECK(cudaGetDeviceProperties(&prop, 0));
  printf("%s, %d multiprocessors\n", prop.name, prop.multiProcessorCount);
  CHECK(cudaMalloc(&x, sizeof(int)));
  one<<<1, 1>>>(x);
  CHECK(cudaGetLastError());
  CHECK(cudaDeviceSynchronize());
  CHECK(cudaMemcpy(&h, x, sizeof(int), cudaMemcpyDeviceToHost));
  CHECK(cudaFree(x));
  return h == 1 && count == 1 ? 0 : 1;
}
