// A kernel goes through a function that times it, and is called there without a launch: nothing is computed.
__global__ void scale(float* x, float by) { x[blockIdx.x * blockDim.x + threadIdx.x] *= by; }

template <class Kernel, class... Arguments>
void repeat(int times, Kernel kernel, Arguments... arguments) {
  for (int i = 0; i < times; ++i) {
    kernel(arguments...);  // BUG: kernel-call
  }
}

int main() {
  float* x;
  cudaMalloc(&x, 1024 * sizeof(float));
  cudaMemset(x, 0, 1024 * sizeof(float));
  scale<<<4, 256>>>(x, 2.0f);
  repeat(3, scale, x, 2.0f);
  cudaFree(x);
}
