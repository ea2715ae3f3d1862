// layout.cu (v1): NCHW <-> NHWC; one shuffled, scaled batch out of a data set on the device; the data set's cursor.
// Layout: layout_convert x [N, ...] `from` -> y [N, ...] `to`; gather_images images [images_count, C, H, W] -> x [N, ...] `to`.
// One thread owns one output element.
// First rung.
// Expected bottleneck: memory; one of the two sides of a layout change is read with a stride.
// Preconditions: cursor[0] + N <= rows and 0 <= order < images_count (the caller's promise).
#include "../common/portable.cuh"
#include "../common/preconditions.h"
#include "entries.h"

namespace warploom::v1 {

// Offset in an image of layout `from` of the element that stands at `inside` in an image of layout `to`.
inline __device__ int moved(int inside, int C, int pixels, Layout from, Layout to) {
  if (from == to) return inside;
  if (to == Layout::nhwc) return inside % C * pixels + inside / C;
  return inside % pixels * C + inside / pixels;
}

__global__ void layout_convert_kernel(int N, int C, int pixels, Layout from, Layout to, const float* __restrict__ x,  // [N, from]
                                      float* __restrict__ y) {                                                        // [N, to]
  const int per_image = C * pixels;
  const int64_t element = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (element >= static_cast<int64_t>(N) * per_image) return;
  const int64_t n = element / per_image;
  const int inside = static_cast<int>(element - n * per_image);
  y[element] = x[n * per_image + moved(inside, C, pixels, from, to)];
}

template <class Pixel>
__global__ void gather_images_kernel(int N, int C, int pixels, float scale, Layout to,
                                     const Pixel* __restrict__ images,  // [images_count, C, pixels]
                                     const int* __restrict__ order,     // [rows]
                                     const int* __restrict__ cursor,    // [1]
                                     float* __restrict__ x) {           // [N, to]
  const int per_image = C * pixels;
  const int64_t element = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (element >= static_cast<int64_t>(N) * per_image) return;
  const int64_t n = element / per_image;
  const int inside = static_cast<int>(element - n * per_image);
  const int64_t row = order[cursor[0] + n];
  x[element] = scale * static_cast<float>(images[row * per_image + moved(inside, C, pixels, Layout::nchw, to)]);
}

__global__ void advance_cursor_kernel(int step, int* __restrict__ cursor) { cursor[0] += step; }  // [1]

static void run_convert(const LayoutConvert& a, const Context& context) {
  const int64_t count = static_cast<int64_t>(a.N) * a.C * a.H * a.W;
  launch(context, "v1::layout_convert_kernel", layout_convert_kernel, dim3(blocks_for(count, kThreads)), dim3(kThreads), 0, a.N,
         a.C, a.H * a.W, a.from, a.to, a.x.ptr(), a.y.ptr());
}

template <class Pixel>
static void run_gather(const GatherImages& a, const Context& context) {
  const int64_t count = static_cast<int64_t>(a.N) * a.C * a.H * a.W;
  launch(context, "v1::gather_images_kernel", gather_images_kernel<Pixel>, dim3(blocks_for(count, kThreads)), dim3(kThreads), 0,
         a.N, a.C, a.H * a.W, a.scale, a.to, a.images.ptr<Pixel>(), a.order.ptr<int>(), a.cursor.ptr<int>(), a.x.ptr());
}

static void run_gather_any(const GatherImages& a, const Context& context) {
  a.dtype == DType::u8 ? run_gather<uint8_t>(a, context) : run_gather<float>(a, context);
}

static void run_advance(const AdvanceCursor& a, const Context& context) {
  launch(context, "v1::advance_cursor_kernel", advance_cursor_kernel, dim3(1), dim3(1), 0, a.step, a.cursor.ptr<int>());
}

Entry<LayoutConvert> layout_convert() { return {run_convert, image_shape<LayoutConvert>, nullptr, nullptr}; }
Entry<GatherImages> gather_images() { return {run_gather_any, gather_images_error, nullptr, nullptr}; }
Entry<AdvanceCursor> advance_cursor() { return {run_advance, nullptr, nullptr, nullptr}; }

}  // namespace warploom::v1
