// cuda.h - everything a .cu file needs to be compiled by the host compiler and run on the emulated device.
//
// common/portable.cuh includes it where nvcc is not the compiler. Words are CUDA's and mean what they mean there; WL_SHARED,
// WL_DYNAMIC_SHARED and launch() replace the three pieces of syntax that are not C++. Each block runs on one OS thread; its
// threads are fibers that change places only at barriers and warp operations (scheduler.cpp).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>

#if !defined(WARPLOOM_LAB_PROGRAM)  // a program of the lab (kernels/lab) knows neither the engine's operations nor its contexts
#include "../device.h"
#endif
#include "vector_types.h"

// Two builds have a function of theirs called before every access: checked (checks.cpp) and counting (counting.cpp).
#if defined(WARPLOOM_EMULATOR_CHECKED) || defined(WARPLOOM_EMULATOR_COUNTING)
#define WARPLOOM_EMULATOR_INSTRUMENTED 1
#endif

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

namespace warploom {
namespace emulator {

// Where a barrier or warp operation stands in the source. Empty in the fast build, so that nothing is passed.
#if defined(WARPLOOM_EMULATOR_INSTRUMENTED)
struct Site {
  const char* file;
  int line;
};
#define WL_SITE ::warploom::emulator::Site site = {__builtin_FILE(), __builtin_LINE()}
#else
struct Site {};
#define WL_SITE ::warploom::emulator::Site site = {}
#endif

// What the running thread can ask about itself. One per fiber; `current` never changes under a running thread.
struct Identity {
  uint3 thread;
  unsigned number;  // x + blockDim.x * (y + blockDim.y * z)
};
struct BlockIdentity {
  uint3 block;
  dim3 block_dim;
  dim3 grid_dim;
};
// initial-exec: one instruction to read, and the address may not be cached across a switch of OS thread (fibers never change it).
extern __thread Identity* current_identity __attribute__((tls_model("initial-exec"), visibility("hidden")));
extern __thread BlockIdentity current_block __attribute__((tls_model("initial-exec"), visibility("hidden")));

// A load that the instrumentation does not see.
template <class T>
inline __attribute__((always_inline)) T own(const T& value) {
#if !defined(WARPLOOM_EMULATOR_INSTRUMENTED)
  return value;
#else
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "4 or 8 bytes");
  T result;
#if defined(__x86_64__)
  asm("mov %1, %0" : "=r"(result) : "m"(value));
#elif defined(__aarch64__)
  if constexpr (sizeof(T) == 4)
    asm("ldr %w0, %1" : "=r"(result) : "m"(value));
  else
    asm("ldr %0, %1" : "=r"(result) : "m"(value));
#else
#error "the instrumented builds of the emulator know x86-64 and aarch64"
#endif
  return result;
#endif
}
inline __attribute__((always_inline)) uint3 thread_index() {
  const Identity* identity = own(current_identity);
  return uint3{own(identity->thread.x), own(identity->thread.y), own(identity->thread.z)};
}
inline __attribute__((always_inline)) uint3 block_index() {
  return uint3{own(current_block.block.x), own(current_block.block.y), own(current_block.block.z)};
}
inline __attribute__((always_inline)) dim3 block_dim() {
  return dim3(own(current_block.block_dim.x), own(current_block.block_dim.y), own(current_block.block_dim.z));
}
inline __attribute__((always_inline)) dim3 grid_dim() {
  return dim3(own(current_block.grid_dim.x), own(current_block.grid_dim.y), own(current_block.grid_dim.z));
}

// The block's storage for one WL_SHARED declaration; `site` is unique to it. All threads of a block get the same address.
void* shared_storage(const void* site, size_t bytes, size_t alignment, const char* name);
void* dynamic_shared();

struct LaunchRequest {
  const char* name;
  void (*kernel)();
  void (*invoke)(void (*kernel)(), const void* parameters);
  const void* parameters;
  size_t parameter_bytes;
  dim3 grid, block;
  size_t shared_bytes;
  void* device;
  bool all_at_once = false;  // every block has a worker of its own, so that blocks may wait for each other
};
void run(const LaunchRequest& request);  // returns when every block has finished; throws DeviceError, KernelFault

template <class... Params>
void invoke(void (*kernel)(), const void* parameters) {
  std::apply(reinterpret_cast<void (*)(Params...)>(kernel), *static_cast<const std::tuple<Params...>*>(parameters));
}

template <class T>
struct Exactly {
  using type = T;
};

#if !defined(WARPLOOM_LAB_PROGRAM)
template <class... Params>
void launch(const Context& context, const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
            typename Exactly<Params>::type... parameters) {
  const std::tuple<Params...> packed(parameters...);
  static_assert(sizeof(packed) <= 4096, "kernel parameters are limited to 4096 bytes");
  LaunchRequest request;
  request.name = name;
  request.kernel = reinterpret_cast<void (*)()>(kernel);
  request.invoke = &invoke<Params...>;
  request.parameters = &packed;
  request.parameter_bytes = sizeof(packed);
  request.grid = grid;
  request.block = block;
  request.shared_bytes = shared_bytes;
  request.device = context.stream;
  run(request);
}
#endif

}  // namespace emulator
}  // namespace warploom

#define threadIdx (::warploom::emulator::thread_index())
#define blockIdx (::warploom::emulator::block_index())
#define blockDim (::warploom::emulator::block_dim())
#define gridDim (::warploom::emulator::grid_dim())
constexpr int warpSize = 32;

// A reference to a real array, so that sizeof, indexing and the bounds checks of inner dimensions work as on __shared__ arrays.
#define WL_SHARED(T, name, dims)                        \
  typedef T wl_type_##name dims;                        \
  static char wl_site_##name;                           \
  wl_type_##name& name = *static_cast<wl_type_##name*>( \
      ::warploom::emulator::shared_storage(&wl_site_##name, sizeof(wl_type_##name), alignof(wl_type_##name), #name))
#define WL_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::warploom::emulator::dynamic_shared())
#define WL_UNROLL

#if defined(WARPLOOM_EMULATOR_INSTRUMENTED) && !defined(WARPLOOM_EMULATOR_RUNTIME)
// The instrumentation does not see these: kernels, which live in this namespace, get ones that are announced.
namespace warploom {
namespace emulator {
void announced_copy(void* to, const void* from, size_t bytes);
void announced_fill(void* to, int byte, size_t bytes);
}  // namespace emulator
inline void* memcpy(void* to, const void* from, size_t bytes) {
  emulator::announced_copy(to, from, bytes);
  return to;
}
inline void* memmove(void* to, const void* from, size_t bytes) {
  emulator::announced_copy(to, from, bytes);
  return to;
}
inline void* memset(void* to, int byte, size_t bytes) {
  emulator::announced_fill(to, byte, bytes);
  return to;
}
}  // namespace warploom
#endif

#include "intrinsics.h"
