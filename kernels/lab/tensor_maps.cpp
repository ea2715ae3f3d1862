// tensor_maps.cpp - cuTensorMapEncodeTiled: what the driver would refuse, and what the emulated copy engine has no model of.
#include "state.h"
// After it: its words are needed.
#include "../emulator/async_proxy.h"
#include "include/cuda.h"

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill, warploom::emulator::Site site) {
  static const uint32_t kBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  auto refuse = [&](const std::string& why) {
    warploom::lab::report("error", "tensor-map", site, "cuTensorMapEncodeTiled " + why);
    return CUDA_ERROR_INVALID_VALUE;
  };
  if (rank < 1 || rank > 4 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
    return refuse(
        "is asked for a map that the lab does not model: it models 1 to 4 dimensions, not interleaved, filled with zeros");
  if (reinterpret_cast<uintptr_t>(address) % 16) return refuse("is given an address that is not a multiple of 16");
  if (!warploom::lab::allocation_at(address)) return refuse("is given an address that is not in device memory");
  warploom::TensorMap m;
  m.base = static_cast<const char*>(address);
  m.element_bytes = kBytes[type];
  m.swizzle_bytes = swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 0 : 16u << swizzle;
  for (uint32_t i = 0; i < 4; ++i) {
    const bool there = i < rank;
    if (there && (box[i] < 1 || box[i] > 256))
      return refuse("is given a box of " + std::to_string(box[i]) + "; 1 to 256 are possible");
    if (there && element_strides[i] != 1) return refuse("is given an element stride that is not 1, which the lab does not model");
    if (there && i && (strides[i - 1] % 16 || strides[i - 1] < m.element_bytes))
      return refuse("is given a stride of " + std::to_string(strides[i - 1]) + " bytes; strides are multiples of 16");
    m.size[i] = there ? static_cast<uint32_t>(sizes[i]) : 1;
    m.box[i] = there ? box[i] : 1;
    m.stride[i] = !i ? m.element_bytes : there ? strides[i - 1] : m.stride[i - 1] * m.size[i - 1];
  }
  const uint32_t row = m.box[0] * m.element_bytes;
  if (row % 16) return refuse("is given a box whose rows have " + std::to_string(row) + " bytes; they are multiples of 16");
  if (m.swizzle_bytes && row > m.swizzle_bytes)
    return refuse("is given rows of " + std::to_string(row) + " bytes, more than the swizzle's " +
                  std::to_string(m.swizzle_bytes));
  if (m.swizzle_bytes && row != m.swizzle_bytes)
    return refuse("is given rows shorter than the swizzle's span, which the lab does not model");
  map->wl_map = m;
  return CUDA_SUCCESS;
}
