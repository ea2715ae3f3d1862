// In a template, inside of a macro.
#define TILE(T, n) __shared__ T tile[n]
template <typename T, int N>
__global__ void shift(T* out, const T* in) {
  TILE(T, N);
  tile[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = tile[(threadIdx.x + 1) % N];  // BUG: shared-race
}
int main() {
  static double host[64];
  double* a;
  double* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(double));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  shift<double, 64><<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
