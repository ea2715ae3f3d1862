// bulk_copy.cuh - cp.async.bulk: one thread has the copy engine (TMA) bring a piece of device memory into shared memory; PTX on the GPU,
// and beside it the emulated device's model (emulator/bulk_copies.cpp).
//
// bulk_copy() takes one contiguous run. bulk_copy_tensor() takes a box of a tensor of four dimensions, the innermost first; what lies
// outside the tensor, before its beginning too, arrives as zeros: a convolution's padding. The map of the tensor is made on the host.
// Preconditions: sm_90; shared addresses multiples of 128, runs and strides of 16 bytes; the bytes announced to the barrier.
#pragma once

#include <string>
#include <type_traits>

#include "async_barrier.cuh"
#if defined(__CUDACC__)
#include <cuda.h>
#endif

namespace warploom {

#if defined(__CUDACC__)
using TensorMap = CUtensorMap;
#endif

__device__ __forceinline__ void bulk_copy(void* shared, const void* global, uint32_t bytes, AsyncBarrier* barrier WL_HERE) {
#if !defined(__CUDACC__)
  emulator::bulk_copy(shared, global, bytes, barrier WL_PASS_HERE);
#elif __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(shared)),
      "l"(global), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
#else
  (void)shared, (void)global, (void)bytes, (void)barrier;
#endif
}

__device__ __forceinline__ void bulk_copy_tensor(void* shared, const TensorMap& map, int at0, int at1, int at2, int at3,
                                                 AsyncBarrier* barrier WL_HERE) {
#if !defined(__CUDACC__)
  emulator::bulk_copy_tensor(shared, &map, at0, at1, at2, at3, barrier WL_PASS_HERE);
#elif __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::
          "r"(shared_address(shared)),
      "l"(&map), "r"(at0), "r"(at1), "r"(at2), "r"(at3), "r"(shared_address(barrier))
      : "memory");
#else
  (void)shared, (void)map, (void)at0, (void)at1, (void)at2, (void)at3, (void)barrier;
#endif
}

// The map of a dense tensor [size[3]][size[2]][size[1]][size[0]] of floats, bytes or numbers of 16 bits in boxes of box[3] x ... x
// box[0]; throws where the driver refuses it. swizzled: a box's rows are 128 bytes, whose 16-byte chunks arrive exchanged by bits 7 to 9
// of their address; the box begins at a multiple of 1024. every: the tensor is every so many-th row and column (axes 2 and 1), from
// `base` on, of a dense one `every` times as high and wide.
template <class Element>
TensorMap tensor_map(const Element* base, const int (&size)[4], const int (&box)[4], bool swizzled = false, int every = 1) {
  static_assert(std::is_same_v<Element, float> || std::is_same_v<Element, unsigned char> || std::is_same_v<Element, uint16_t>,
                "float32, uint8 and 16 bits");
#if !defined(__CUDACC__)
  // What cuTensorMapEncodeTiled asks, so that it is asked here too.
  int64_t stride = sizeof(Element);
  bool right = reinterpret_cast<uintptr_t>(base) % 16 == 0 && box[0] * sizeof(Element) % 16 == 0 &&
               (!swizzled || box[0] * sizeof(Element) == 128);
  for (int i = 0; i < 4; ++i) {
    right = right && size[i] > 0 && box[i] > 0 && box[i] <= 256;
    stride *= i < 2 ? int64_t(size[i]) * every : size[i];
    if (i < 3) right = right && stride % 16 == 0 && stride < int64_t(1) << 40;
  }
  if (!right)
    throw DeviceError(
        "a CUDA driver would refuse this tensor map: base and strides are multiples of 16 bytes, a box has 1 to 256 elements "
        "an axis, its rows multiples of 16 bytes, swizzled 128");
  TensorMap map;
  map.base = reinterpret_cast<const char*>(base);
  map.element_bytes = sizeof(Element);
  map.stride[0] = sizeof(Element);
  map.swizzle_bytes = swizzled ? 128 : 0;
  for (int i = 0; i < 4; ++i) {
    map.size[i] = static_cast<uint32_t>(size[i]), map.box[i] = static_cast<uint32_t>(box[i]);
    if (i) map.stride[i] = map.stride[i - 1] * map.size[i - 1] * static_cast<uint64_t>(i < 3 ? every : 1);
  }
  return map;
#else
  using Encode =
      CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                   const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static const Encode encode = [] {  // of the driver, which we are not linked with
    void* symbol = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    const cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &symbol, 12000, cudaEnableDefault, &found);
#else  // by the runtime's own version, which is 12.0 or later where sm_90a is compiled
    const cudaError_t e = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &symbol, cudaEnableDefault, &found);
#endif
    if (e != cudaSuccess || found != cudaDriverEntryPointSuccess) {
      (void)cudaGetLastError();
      throw DeviceError("the CUDA driver has no cuTensorMapEncodeTiled; v7 needs driver 525 (CUDA 12.0) or newer");
    }
    return reinterpret_cast<Encode>(symbol);
  }();
  TensorMap map;
  cuuint64_t sizes[4], strides[3];
  cuuint32_t boxes[4], steps[4] = {1, 1, 1, 1};
  cuuint64_t stride = sizeof(Element);
  for (int i = 0; i < 4; ++i) {
    sizes[i] = static_cast<cuuint64_t>(size[i]), boxes[i] = static_cast<cuuint32_t>(box[i]);
    stride *= sizes[i] * static_cast<cuuint64_t>(i < 2 ? every : 1);
    if (i < 3) strides[i] = stride;
  }
  const CUresult result = encode(&map,
                                 sizeof(Element) == 4   ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                                 : sizeof(Element) == 2 ? CU_TENSOR_MAP_DATA_TYPE_UINT16
                                                        : CU_TENSOR_MAP_DATA_TYPE_UINT8,
                                 4, const_cast<Element*>(base), sizes, strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                 swizzled ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw DeviceError("the CUDA driver refuses the tensor map of [" + std::to_string(size[3]) + ", " + std::to_string(size[2]) +
                      ", " + std::to_string(size[1]) + ", " + std::to_string(size[0]) + "] elements: error " +
                      std::to_string(result));
  return map;
#endif
}

}  // namespace warploom
