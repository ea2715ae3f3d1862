// concat/kernels.cu: y[r] = x0[r], x1[r], ...; backward: dx k[r] = its columns of dy[r]
// Layout: tensors [rows, cols k], together [rows, total]: channels in NCHW are rows = N, cols = C_k * H * W, in NHWC rows = N * H * W.
// One launch per tensor; a thread owns four units of four neighbouring columns (one where sizes or alignment forbid), see ../maps.cuh.
// One implementation for all versions; the gradient is the same copy with the roles exchanged. Expected bottleneck: memory
//   bandwidth.
// Preconditions: total < 2^31 - 4096.
#include "../maps.cuh"
#include "../shared.h"

namespace warploom::shared {

// part[r, i] and whole[r, first + i], in the direction of kGather (part = whole) or back.
template <int kVector, bool kGather>
__global__ void concat_copy_kernel(Map map, int64_t total, int64_t first, const float* __restrict__ from,
                                   float* __restrict__ to) {
  if constexpr (kGather) {  // from [rows, total], to [rows, cols]: a unit's place is known before its value
    for_map<kVector, false>(
        map, [](int64_t) { return 0; },
        [=](const Place& place, int) {
          store_floats<kVector>(to + place.offset, load_floats<kVector>(from + place.outer * total + first + place.inner));
        });
  } else {  // from [rows, cols], to [rows, total]
    for_map<kVector, false>(
        map, [=](int64_t offset) { return load_floats<kVector>(from + offset); },
        [=](const Place& place, const Floats<kVector>& f) {
          store_floats<kVector>(to + place.outer * total + first + place.inner, f);
        });
  }
}

template <bool kGather>
static void copy_part(const Context& context, int64_t rows, int64_t cols, int64_t total, int64_t first, const float* from,
                      float* to) {
  const bool aligned = aligned16(from, to) && total % 4 == 0 && first % 4 == 0 && cols % 4 == 0;
  if (rows == 0 || cols == 0) return;
  const int vector = aligned ? 4 : 1;
  const Map map = {FastDivisor(static_cast<int>(cols / vector)), FastDivisor(1), rows * cols / vector};
  launch(context, "shared::concat_copy_kernel", aligned ? concat_copy_kernel<4, kGather> : concat_copy_kernel<1, kGather>,
         map_grid(map), dim3(kThreads), 0, map, total, first, from, to);
}

static void run_forward(const ConcatForward& a, const Context& context) {
  int64_t first = 0;
  for (int k = 0; k < a.count; first += a.cols[k++])
    copy_part<false>(context, a.rows, a.cols[k], a.total(), first, a.x[k].ptr(), a.y.ptr());
}

static void run_backward(const ConcatBackward& a, const Context& context) {
  int64_t first = 0;
  for (int k = 0; k < a.count; first += a.cols[k++])
    if (a.dx[k]) copy_part<true>(context, a.rows, a.cols[k], a.total(), first, a.dy.ptr(), a.dx[k].ptr());
}

Entry<ConcatForward> concat_forward() { return {run_forward, concat_error<ConcatForward>, nullptr, nullptr}; }
Entry<ConcatBackward> concat_backward() { return {run_backward, concat_error<ConcatBackward>, nullptr, nullptr}; }

}  // namespace warploom::shared
