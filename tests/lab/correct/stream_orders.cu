// Streams that wait for each other: the host waits for the last, and reads what the others have made.
#include <cstdio>

__global__ void add(float* a, float v, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) a[i] += v;
}

int main() {
  const int n = 1024, half = n / 2;
  float *a, *d, *managed;
  cudaMallocHost(&a, n * sizeof(float));
  cudaMalloc(&d, n * sizeof(float));
  cudaMallocManaged(&managed, n * sizeof(float));
  cudaStream_t s[2], apart;
  for (int i = 0; i < 2; ++i) cudaStreamCreate(&s[i]);
  cudaStreamCreateWithFlags(&apart, cudaStreamNonBlocking);
  cudaEvent_t event, second;
  cudaEventCreate(&event);
  cudaEventCreate(&second);
  bool good = true;

  // An event of the default stream waits for all blocking streams.
  for (int i = 0; i < n; ++i) a[i] = i;
  for (int i = 0; i < 2; ++i) {
    cudaMemcpyAsync(d + i * half, a + i * half, half * sizeof(float), cudaMemcpyHostToDevice, s[i]);
    add<<<half / 256, 256, 0, s[i]>>>(d + i * half, 1, half);
    cudaMemcpyAsync(a + i * half, d + i * half, half * sizeof(float), cudaMemcpyDeviceToHost, s[i]);
  }
  cudaEventRecord(event, 0);
  cudaEventSynchronize(event);
  for (int i = 0; i < n; ++i) good = good && a[i] == i + 1;

  // One stream waits for an event of another one, and the host for it alone.
  cudaMemsetAsync(managed, 0, n * sizeof(float), s[0]);
  add<<<n / 256, 256, 0, s[0]>>>(managed, 2, n);
  cudaEventRecord(event, s[0]);
  cudaStreamWaitEvent(apart, event, 0);
  add<<<n / 256, 256, 0, apart>>>(managed, 3, n);
  cudaEventRecord(second, apart);
  cudaStreamWaitEvent(s[1], second, 0);
  cudaStreamSynchronize(s[1]);
  for (int i = 0; i < n; ++i) good = good && managed[i] == 5;

  // A blocking stream starts behind what the default stream was given before.
  add<<<n / 256, 256>>>(managed, 1, n);
  add<<<n / 256, 256, 0, s[0]>>>(d, 1, n);
  cudaStreamSynchronize(s[0]);
  for (int i = 0; i < n; ++i) good = good && managed[i] == 6;

  cudaFree(d);
  cudaFree(managed);
  cudaFreeHost(a);
  for (int i = 0; i < 2; ++i) cudaStreamDestroy(s[i]);
  cudaStreamDestroy(apart);
  cudaEventDestroy(event);
  cudaEventDestroy(second);
  puts(good ? "right" : "wrong");
  return good ? 0 : 1;
}
