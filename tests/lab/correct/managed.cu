// Managed memory, waited for.
__global__ void fill(int* x) { x[blockIdx.x * blockDim.x + threadIdx.x] += 1; }
int main() {
  int* x;
  cudaMallocManaged(&x, 256 * sizeof(int));
  for (int i = 0; i < 256; i++) x[i] = i;
  fill<<<4, 64>>>(x);
  cudaDeviceSynchronize();
  int bad = 0;
  for (int i = 0; i < 256; i++) bad += x[i] != i + 1;
  cudaFree(x);
  return bad;
}
