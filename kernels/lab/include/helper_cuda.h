// helper_cuda.h - what programs written beside NVIDIA's samples expect of a header of this name: checking macros and the choice of a device.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "cuda_runtime.h"
#include "helper_string.h"

#ifndef EXIT_WAIVED
#define EXIT_WAIVED 2
#endif

inline const char* _cudaGetErrorEnum(cudaError_t error) { return cudaGetErrorName(error); }
inline void wl_check(cudaError_t result, const char* call, const char* file, int line) {
  if (result == cudaSuccess) return;
  fprintf(stderr, "CUDA error at %s:%d code=%d(%s) \"%s\"\n", file, line, static_cast<int>(result), cudaGetErrorName(result),
          call);
  exit(EXIT_FAILURE);
}
#define checkCudaErrors(call) wl_check((call), #call, __FILE__, __LINE__)
#define getLastCudaError(message) wl_check(cudaGetLastError(), message, __FILE__, __LINE__)
#define printLastCudaError(message) wl_check(cudaGetLastError(), message, __FILE__, __LINE__)

inline int _ConvertSMVer2Cores(int, int) { return 128; }
inline const char* _ConvertSMVer2ArchName(int, int) { return "Hopper"; }
inline int gpuDeviceInit(int device) { return device; }
inline int gpuGetMaxGflopsDeviceId() { return 0; }
inline int findCudaDevice(int, const char**) {
  cudaDeviceProp p;
  cudaGetDeviceProperties(&p, 0);
  printf("GPU Device 0: \"%s\" with compute capability %d.%d\n\n", p.name, p.major, p.minor);
  return 0;
}
inline int findIntegratedGPU() { return -1; }
inline bool checkCudaCapabilities(int major, int minor) { return major < 9 || (major == 9 && minor == 0); }
#ifndef MAX
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#ifndef MIN
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#endif
inline int ftoi(float v) { return static_cast<int>(v >= 0 ? v + 0.5f : v - 0.5f); }
