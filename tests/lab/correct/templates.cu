// Deduced and given template arguments, an overload, a function pointer.
template <typename T> __global__ void fill(T* x, T v) { x[threadIdx.x] = v; }
template <typename T, int N> __global__ void add(T* x) { x[threadIdx.x] += N; }
__global__ void twice(int* x) { x[threadIdx.x] *= 2; }
__global__ void twice(int* x, int times) { for (int k = 0; k < times; k++) x[threadIdx.x] *= 2; }
struct Wrap { static void run(int* x) { add<int, (3 > 2)><<<1, 64>>>(x); } };
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  fill<<<1, 64>>>(b, 5);
  add<int, 7><<<1, 64>>>(b);
  Wrap::run(b);
  twice<<<1, 64>>>(b, 2);
  void (*k)(int*) = twice;
  k<<<dim3(1), dim3(64), 0, 0>>>(b);
  cudaDeviceSynchronize();
  static int result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 13 * 8);
  return bad != 0;
}
