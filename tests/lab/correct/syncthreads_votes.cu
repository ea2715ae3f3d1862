// The counting barriers.
__global__ void votes(int* out, const int* in) {
  int n = __syncthreads_count(in[threadIdx.x] > 9);
  int all = __syncthreads_and(in[threadIdx.x] >= 0), any = __syncthreads_or(in[threadIdx.x] == 5);
  out[threadIdx.x] = n * 100 + all * 10 + any;
}
int main() {
  static int host[64];
  int* a;
  int* b;
  for (int i = 0; i < 64; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 64 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  votes<<<1, 64>>>(b, a);
  cudaDeviceSynchronize();
  static int result[64];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 64; i++) bad += !(result[i] == 5411);
  return bad != 0;
}
