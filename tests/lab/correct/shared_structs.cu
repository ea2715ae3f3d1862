// Structures and several arrays in one declaration.
struct Pair { int key; float value; };
__global__ void sort_pairs(int* out, const int* in) {
  __shared__ Pair pairs[32];
  __shared__ int order[32], *first, count;
  if (threadIdx.x == 0) count = 0, first = order;
  pairs[threadIdx.x] = Pair{in[threadIdx.x] % 4, 1.0f * in[threadIdx.x]};
  __syncthreads();
  if (pairs[threadIdx.x].key == 2) order[atomicAdd(&count, 1)] = (int)pairs[threadIdx.x].value;
  __syncthreads();
  out[threadIdx.x] = threadIdx.x < count ? first[threadIdx.x] % 4 : 2;
}
int main() {
  static int host[32];
  int* a;
  int* b;
  for (int i = 0; i < 32; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  sort_pairs<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  static int result[32];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 32; i++) bad += !(result[i] == 2);
  return bad != 0;
}
