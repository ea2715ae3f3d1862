// augment_images: one shuffled batch out of a data set on the device, each image flipped, shifted, with noise and a hole: see args.h
// Layout: images [images_count, C, H, W] -> x, y [N, ...] `to`.
// One thread owns four elements of an image that follow each other in NCHW, for which one block of random words is noise; what decides
//   is drawn by every thread anew, which is cheaper than a meeting of threads.
// One implementation for all versions. Expected bottleneck: the instructions of the draws; without noise memory, and to NHWC the
//   stores, four of which lie C elements apart.
// Preconditions: see augment_images_error; cursor[0] + N <= rows and 0 <= order < images_count (the caller's promise).
#include "../shared.h"
#include "kernels/common/philox.cuh"
#include "preconditions.h"
#define WL_NORMAL __host__ __device__ __forceinline__
#include "../normal.h"
#define WL_CHANGE __host__ __device__ __forceinline__
#include "change.h"

namespace warploom::shared {

constexpr int kAugmentThreads = 128;

struct Augmenting {
  int C, H, W, flip, shift, cutout;
  float noise, scale;
  uint32_t key_low, key_high;
  Layout to;

  __device__ __forceinline__ ImageChange change(uint32_t number, uint32_t epoch) const {
    Draws4 where = {{0, 0, 0, 0}}, hole = {{0, 0, 0, 0}};
    if (flip || shift) where = philox4(0, number, epoch, kAugmentStream, key_low, key_high);
    if (cutout) hole = philox4(1, number, epoch, kAugmentStream, key_low, key_high);
    return ImageChange::of(*this, where.word, hole.word);
  }
};

// A noisy pixel as its type holds it. Comparisons say what becomes of -0, unlike fmaxf.
__device__ __forceinline__ float stored(uint8_t, float value) {
  value = value > 0.0f ? value : 0.0f;
  return rintf(value < 255.0f ? value : 255.0f);
}
__device__ __forceinline__ float stored(float, float value) { return value; }

template <class Pixel>
__global__ void augment_images_kernel(int64_t units, int groups, Augmenting how,
                                      const Pixel* __restrict__ images,  // [images_count, C, H, W]
                                      const int* order,                  // [rows]
                                      const int* numbers,                // [rows], which may be `order`
                                      const int* __restrict__ cursor,    // [1]
                                      const int* __restrict__ epoch,     // [1]
                                      float* __restrict__ x,             // [N, to]
                                      float* __restrict__ y) {           // [N, to] or null
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kAugmentThreads + threadIdx.x;
  if (unit >= units) return;
  const int64_t n = unit / groups;
  const int group = static_cast<int>(unit - n * groups), pixels = how.H * how.W, per_image = how.C * pixels;
  const int64_t at = cursor[0] + n;
  const uint32_t number = static_cast<uint32_t>(numbers[at]), step = static_cast<uint32_t>(epoch[0]);
  const ImageChange change = how.change(number, step);
  float drawn[4] = {};
  if (how.noise > 0.0f) {
    const Draws4 d = philox4(static_cast<uint32_t>(group), number, step, kAugmentStream + 1, how.key_low, how.key_high);
    normal_pair(d.word[0], d.word[1], &drawn[0], &drawn[1]);
    normal_pair(d.word[2], d.word[3], &drawn[2], &drawn[3]);
  }
  const Pixel* image = images + static_cast<int64_t>(order[at]) * per_image;
  WL_UNROLL
  for (int e = 0; e < 4; ++e) {
    const int i = 4 * group + e;
    if (i >= per_image) break;
    const int c = i / pixels, inside = i - c * pixels, row = inside / how.W, column = inside - row * how.W;
    const int64_t place = n * per_image + (how.to == Layout::nhwc ? inside * how.C + c : i);
    float value = static_cast<float>(image[(c * how.H + change.row(row)) * how.W + change.column(column)]);
    if (y) y[place] = how.scale * value;
    if (how.noise > 0.0f) value = stored(Pixel(), fmaf(how.noise, drawn[e], value));
    x[place] = change.is_cut(row, column) ? 0.0f : how.scale * value;
  }
}

template <class Pixel>
static void run_augment(const AugmentImages& a, const Context& context) {
  const int groups = static_cast<int>((int64_t(a.C) * a.H * a.W + 3) / 4);
  const int64_t units = int64_t(a.N) * groups;
  if (units == 0) return;
  const Augmenting how = {a.C,
                          a.H,
                          a.W,
                          a.flip,
                          a.shift,
                          a.cutout,
                          a.noise,
                          a.scale,
                          static_cast<uint32_t>(a.seed),
                          static_cast<uint32_t>(static_cast<uint64_t>(a.seed) >> 32),
                          a.to};
  launch(context, "shared::augment_images_kernel", augment_images_kernel<Pixel>, dim3(blocks_for(units, kAugmentThreads)),
         dim3(kAugmentThreads), 0, units, groups, how, a.images.ptr<Pixel>(), a.order.ptr<int>(), a.numbers.ptr<int>(),
         a.cursor.ptr<int>(), a.epoch.ptr<int>(), a.x.ptr(), a.y.ptr());
}

static void run_augment_any(const AugmentImages& a, const Context& context) {
  a.dtype == DType::u8 ? run_augment<uint8_t>(a, context) : run_augment<float>(a, context);
}

Entry<AugmentImages> augment_images() { return {run_augment_any, augment_images_error, nullptr, nullptr}; }

}  // namespace warploom::shared
