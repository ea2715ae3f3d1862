// Every kind, with the value that was there before.
__global__ void all_kinds(int* x, float* f) {
  atomicAdd(&x[0], 1);
  atomicMax(&x[1], (int)threadIdx.x);
  atomicMin(&x[2], -(int)threadIdx.x);
  atomicOr(&x[3], 1 << (threadIdx.x % 8));
  atomicXor(&x[4], 1);
  int old = x[5 + threadIdx.x / 64], seen;
  do {
    seen = old;
    old = atomicCAS(&x[6], seen, seen + 2);
  } while (old != seen);
  atomicAdd(f, 0.5f);
}
int main() {
  static int host[7];
  int* a;
  float* b;
  for (int i = 0; i < 7; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 1 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  cudaMemset(a, 0, 28);
  cudaMemset(b, 0, 4);
  all_kinds<<<2, 64>>>(a, b);
  int h[7];
  cudaMemcpy(h, a, 28, cudaMemcpyDeviceToHost);
  if (h[0] != 128 || h[1] != 63 || h[2] != -63 || h[3] != 255 || h[4] != 0 || h[6] != 256) return 2;
  cudaDeviceSynchronize();
  static float result[1];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 1; i++) bad += !(result[0] == 64);
  return bad != 0;
}
