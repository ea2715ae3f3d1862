// A __device__ variable, incremented by every block.
__device__ int visits;
__global__ void visit() {
  if (threadIdx.x == 0) visits++;  // BUG: block-race
}
int main() {
  static int host[1];
  int* a;
  int* b;
  for (int i = 0; i < 1; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  visit<<<8, 32>>>();
  cudaDeviceSynchronize();
  cudaFree(a);
  cudaFree(b);
}
