// launch.cuh - launch(): every kernel starts here. Empty work returns, grid limits are checked, failures are thrown with the
// name.
#pragma once

#include <cstdlib>
#include <string>
#include <utility>

#include "device_fault.h"
#include "portable.cuh"

namespace warploom {

// Blocks needed for `count` items at `per_block` each.
inline unsigned blocks_for(int64_t count, int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

inline void check_launch_shape(const char* name, dim3 grid, dim3 block) {
  auto fail = [&](const char* what, unsigned got, unsigned limit) {
    throw DeviceError(std::string(name) + ": launch " + what + " is " + std::to_string(got) + ", the limit is " +
                      std::to_string(limit));
  };
  if (grid.x > 2147483647u) fail("grid.x", grid.x, 2147483647u);
  if (grid.y > 65535u) fail("grid.y", grid.y, 65535u);
  if (grid.z > 65535u) fail("grid.z", grid.z, 65535u);
  if (block.z > 64u) fail("block.z", block.z, 64u);
  const unsigned long long threads = 1ull * block.x * block.y * block.z;
  if (threads > 1024ull) fail("block size", static_cast<unsigned>(threads), 1024u);
}

#if defined(__CUDACC__)

// As the CUDA runtime reads it: a launch then returns when its kernel has ended.
inline bool launches_block() {
  const char* text = std::getenv("CUDA_LAUNCH_BLOCKING");
  return text && *text && std::string(text) != "0";
}

template <class... Params, class... Args>
void launch(const Context& context, const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
            Args&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  check_launch_shape(name, grid, block);
  if (shared_bytes > 48 * 1024) {  // above the static limit a kernel must ask once; cheap to repeat
    const cudaError_t e =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (e != cudaSuccess) {
      (void)cudaGetLastError();
      if (context_is_lost(e)) throw DeviceError(launch_failure(name, e, cudaGetErrorString(e), false));
      throw DeviceError(std::string(name) + ": this GPU cannot give a block " + std::to_string(shared_bytes) +
                        " bytes of shared memory: " + cudaGetErrorString(e));
    }
  }
  const bool lost_before = context_is_lost(cudaGetLastError());  // what else a call before left has been told
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(context.stream)>>>(std::forward<Args>(args)...);
  const cudaError_t e = cudaGetLastError();
  if (e != cudaSuccess) throw DeviceError(launch_failure(name, e, cudaGetErrorString(e), launches_block() && !lost_before));
}

#else

template <class... Params, class... Args>
void launch(const Context& context, const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
            Args&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  check_launch_shape(name, grid, block);
  emulator::launch(context, name, kernel, grid, block, shared_bytes, static_cast<Params>(std::forward<Args>(args))...);
}

#endif

}  // namespace warploom
