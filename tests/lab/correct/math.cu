// Functions of the device and of the host agree.
#include <math.h>
#include <math_constants.h>
__global__ void functions(float* out, const float* in) {
  float x = in[threadIdx.x] * 0.1f + 0.5f, s, c;
  sincosf(x, &s, &c);
  out[threadIdx.x] = fabsf(s * s + c * c - 1.0f) < 1e-5f && fabsf(rsqrtf(x) * sqrtf(x) - 1) < 1e-5f && fmaxf(x, 1.0f) >= 1.0f &&
                     max((int)threadIdx.x, 3) >= 3 && fabsf(__expf(__logf(x)) - x) < 1e-4f && !isnan(x) && x < CUDART_INF_F;
}
int main() {
  static float host[32];
  float* a;
  float* b;
  for (int i = 0; i < 32; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 32 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  functions<<<1, 32>>>(b, a);
  cudaDeviceSynchronize();
  static float result[32];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 32; i++) bad += !(result[i] == 1);
  return bad != 0;
}
