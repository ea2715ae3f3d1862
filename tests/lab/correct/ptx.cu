// Inline PTX: lane, shared loads, arithmetic, a predicate.
__device__ __forceinline__ unsigned lane_id() {
  unsigned lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}
__global__ void words(int* out, const int* in) {
  __shared__ int s[32];
  s[lane_id()] = in[threadIdx.x];
  __syncwarp();
  unsigned at = (unsigned)__cvta_generic_to_shared(&s[31 - lane_id()]);
  int v, w;
  asm volatile("ld.shared.s32 %0, [%1];" : "=r"(v) : "r"(at) : "memory");
  asm volatile(
      "{\n"
      "  .reg .pred p;\n"
      "  .reg .b32 t;\n"
      "  add.s32 t, %1, 5;\n"
      "  setp.gt.s32 p, t, 20;\n"
      "  selp.b32 %0, t, 0, p;\n"
      "}\n"
      : "=r"(w)
      : "r"(v));
  out[threadIdx.x] = w;
}
int main() {
  static int host[32];
  int* a;
  int* b;
  for (int i = 0; i < 32; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(int));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  words<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  static int result[32];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 32; i++) bad += !(result[i] == (31 - i + 5 > 20 ? 31 - i + 5 : 0));
  return bad != 0;
}
