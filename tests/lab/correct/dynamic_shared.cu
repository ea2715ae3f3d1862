// Two arrays in one piece of dynamic shared memory.
__global__ void swap(int* out, const int* in, int n) {
  extern __shared__ char raw[];
  int* first = reinterpret_cast<int*>(raw);
  float* second = reinterpret_cast<float*>(first + n);
  first[threadIdx.x] = in[threadIdx.x];
  second[threadIdx.x] = 2.0f * in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = first[n - 1 - threadIdx.x] + (int)second[n - 1 - threadIdx.x];
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  swap<<<1, 64, 64 * (sizeof(int) + sizeof(float))>>>(b, a, 64);
  cudaDeviceSynchronize();
  static int result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 3 * (63 - i));
  return bad != 0;
}
