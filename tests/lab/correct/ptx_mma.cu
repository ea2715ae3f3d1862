// ldmatrix and mma.sync as inline PTX.
#include <cuda_fp16.h>
__global__ void product(float* out, const float* in) {
  __shared__ __align__(16) half x[16 * 16], one[16 * 8];
  for (int i = threadIdx.x; i < 256; i += 32) x[i] = __float2half(in[i]);
  for (int i = threadIdx.x; i < 128; i += 32) one[i] = __float2half(i / 8 == i % 8 ? 1.0f : 0.0f);
  __syncthreads();
  unsigned a[4], b[2], lane = threadIdx.x;
  float c[4] = {0, 0, 0, 0};
  unsigned at = (unsigned)__cvta_generic_to_shared(&x[(lane % 16) * 16 + lane / 16 * 8]);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(at));
  at = (unsigned)__cvta_generic_to_shared(&one[(lane % 16) * 8]);
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(b[0]), "=r"(b[1]) : "r"(at));
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  for (int i = 0; i < 4; i++) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
}
int main() {
  static float host[256];
  float* a;
  float* b;
  for (int i = 0; i < 256; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 128 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  product<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  static float result[128];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 128; i++) bad += !(result[i] == i / 8 * 16 + i % 8);
  return bad != 0;
}
