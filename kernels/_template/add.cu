// add.cu (copyme): y = a + b
// Layout: any; flat arrays of `count` floats.
// One thread owns every (blockDim * gridDim)-th element.
// From v2: nothing gained; a grid-stride loop, as an example of a kernel with its launcher and its entry. Expected bottleneck:
//   memory bandwidth.
// Preconditions: fewer than 2^31 elements (32-bit index); y may be the very same buffer as a or b.
#include "../common/portable.cuh"
#include "../common/preconditions.h"
#include "entries.h"

namespace warploom::copyme {

constexpr int kThreads = 256, kMostBlocks = 1024;

__global__ void add_kernel(int count, const float* a, const float* b, float* y) {  // [count] each
  const int stride = static_cast<int>(blockDim.x * gridDim.x);
  for (int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += stride) y[i] = a[i] + b[i];
}

static void run(const Add& args, const Context& context) {
  const unsigned blocks = blocks_for(args.count, kThreads);
  launch(context, "copyme::add_kernel", add_kernel, dim3(blocks < kMostBlocks ? blocks : kMostBlocks), dim3(kThreads), 0,
         static_cast<int>(args.count), args.a.ptr(), args.b.ptr(), args.y.ptr());
}

static std::string why_not(const Add& args) {
  if (args.type != DType::f32) return float32_map(args);
  return args.count < (int64_t(1) << 31) ? "" : "this addition counts in 32 bits and takes fewer than 2147483648 elements";
}

Entry<Add> add() { return {run, why_not, nullptr, nullptr}; }

}  // namespace warploom::copyme
