// portable.cuh - the only file that chooses between CUDA and the emulator.
//
// A kernel is an ordinary __global__ function in a .cu file that includes this header first. nvcc compiles it for the GPU; the
// host compiler compiles the same file for the emulated device. Differences between the two that a kernel author must know:
//   shared memory     WL_SHARED(float, tile, [32][33]);          instead of  __shared__ float tile[32][33];
//   dynamic shared    WL_DYNAMIC_SHARED(float, buffer);          instead of  extern __shared__ float buffer[];
//   launches          launch(context, "name", kernel, grid, block, shared_bytes, arguments...)   instead of  <<<>>>
//   unrolling         WL_UNROLL before a loop                    instead of  #pragma unroll
// Everything else (threadIdx, __syncthreads, __shfl_*_sync, atomics, float4, ...) is written as for CUDA.
#pragma once

#include "../device.h"

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#define WL_SHARED(T, name, dims) __shared__ T name dims
// One untyped symbol for all kernels of a file: CUDA forbids redeclaring it with another type.
extern __shared__ __align__(128) unsigned char wl_dynamic_shared[];
#define WL_DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(wl_dynamic_shared)
#define WL_UNROLL _Pragma("unroll")
#define WL_GRID_CONSTANT __grid_constant__  // of a parameter that is not to be copied by every thread

#else

#include "../emulator/cuda.h"  // defines the same words, and WL_SHARED, WL_DYNAMIC_SHARED, WL_UNROLL
#define WL_GRID_CONSTANT

#endif

#include "launch.cuh"
