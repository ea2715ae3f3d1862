// What NVIDIA's samples call beside CUDA: options, a stop watch, comparisons, files of numbers.
#include <helper_cuda.h>
#include <helper_functions.h>
#include <unistd.h>

__global__ void square(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * x[i];
}

int main(int argc, char** argv) {
  const int n = checkCmdLineFlag(argc, (const char**)argv, "n") ? getCmdLineArgumentInt(argc, (const char**)argv, "n") : 300;
  findCudaDevice(argc, (const char**)argv);
  StopWatchInterface* timer = nullptr;
  sdkCreateTimer(&timer);
  sdkStartTimer(&timer);
  std::vector<float> x(n), expected(n), y(n);
  for (int i = 0; i < n; ++i) x[i] = i, expected[i] = float(i) * i;
  float *dx, *dy;
  checkCudaErrors(cudaMalloc(&dx, n * sizeof(float)));
  checkCudaErrors(cudaMalloc(&dy, n * sizeof(float)));
  checkCudaErrors(cudaMemcpy(dx, x.data(), n * sizeof(float), cudaMemcpyHostToDevice));
  square<<<(n + 127) / 128, 128>>>(dx, dy, n);
  getLastCudaError("square");
  checkCudaErrors(cudaMemcpy(y.data(), dy, n * sizeof(float), cudaMemcpyDeviceToHost));
  sdkStopTimer(&timer);
  bool good = compareData(expected.data(), y.data(), n, 0.01f, 0.0f) && sdkGetTimerValue(&timer) >= 0;
  sdkDeleteTimer(&timer);
  char name[] = "/tmp/warploom-helpers-XXXXXX";
  close(mkstemp(name));
  float *again = nullptr, few[3];
  float* room = few;
  unsigned count = 0, three = 3;
  good = sdkWriteFile(name, y.data(), n, 0.0f, true) && good;
  good = sdkReadFile(name, &again, &count, true) && count == unsigned(n) && good;
  good = good && again[n - 1] == y[n - 1] && !sdkReadFile(name, &room, &three, false);
  free(again);
  unlink(name);
  good = good && !sdkReadFile(name, &again, &count, false) && !sdkWriteFile("/nowhere/at/all", few, 3, 0.0f, false);
  checkCudaErrors(cudaFree(dx));
  checkCudaErrors(cudaFree(dy));
  puts(good ? "right" : "wrong");
  return good ? 0 : 1;
}
