// Structures by value, pointers in them, methods for both sides.
struct Line {
  float a, b;
  __host__ __device__ float at(float x) const { return a * x + b; }
};
struct View {
  float* data;
  int n;
  __device__ float& operator[](int i) { return data[i]; }
};
__global__ void evaluate(View out, const float* in, Line line) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < out.n) out[i] = line.at(in[i]);
}
int main() {
  static float host[100];
  float* a;
  float* b;
  for (int i = 0; i < 100; i++) host[i] = i;
  cudaMalloc(&a, sizeof(host));
  cudaMalloc(&b, 100 * sizeof(float));
  cudaMemcpy(a, host, sizeof(host), cudaMemcpyHostToDevice);
  evaluate<<<2, 64>>>(View{b, 100}, a, Line{3, 1});
  cudaDeviceSynchronize();
  static float result[100];
  cudaMemcpy(result, b, sizeof(result), cudaMemcpyDeviceToHost);
  cudaFree(a);
  cudaFree(b);
  int bad = 0;
  for (int i = 0; i < 100; i++) bad += !(result[i] == 3 * i + 1);
  return bad != 0;
}
