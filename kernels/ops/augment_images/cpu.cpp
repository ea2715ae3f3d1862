// augment_images on the host: one task per image, in pieces of the image as it lies in NCHW; vectors of Philox counters draw the
// noise, and Box and Muller's method is computed for a whole piece at once.
#include <cmath>
#include <vector>

#include "csrc/cpu/draws.h"
#include "csrc/cpu/entries.h"
#include "preconditions.h"
#define WL_NORMAL WL_INLINE
#include "../normal.h"
#define WL_CHANGE WL_INLINE
#include "change.h"

namespace warploom::cpu {
namespace {

constexpr int kPiece = 512;  // elements; a multiple of kDraws

struct AugmentDraw {
  uint32_t number, epoch, key_low, key_high;

  // The words of blocks first, first + 1, ... of a stream.
  WL_INLINE void words(int64_t first, uint32_t stream, uint32_t (&to)[kDraws]) const {
    draw([first, row = static_cast<uint64_t>(number) << 32](int b) { return static_cast<uint64_t>(first + b) | row; }, epoch,
         stream, key_low, key_high, to);
  }
  // Standard normal draws of the elements from `begin` on: normal_pair() of normal.h, one part of it after the other.
  void normal(int64_t begin, int count, float* to) const {
    alignas(64) uint32_t pairs[kDraws], first[kDraws / 2], second[kDraws / 2];
    alignas(64) float radius[kDraws / 2];
    for (int k = 0; k < count; k += kDraws) {
      words((begin + k) / 4, kAugmentStream + 1, pairs);
      for (int p = 0; p < kDraws / 2; ++p) first[p] = pairs[2 * p], second[p] = pairs[2 * p + 1];
      for (int p = 0; p < kDraws / 2; ++p) radius[p] = minus_two_log(first[p]);
      for (int p = 0; p < kDraws / 2; p += kWidth) store(radius + p, root(load(radius + p)));
      for (int p = 0; p < kDraws / 2; ++p) {
        float sine, cosine;
        on_circle(second[p], &sine, &cosine);
        to[k + 2 * p] = radius[p] * cosine, to[k + 2 * p + 1] = radius[p] * sine;
      }
    }
  }
};

void add_noise(float* to, const float* drawn, float noise, int count, bool bytes) {
  for (int k = 0; k < count; ++k) to[k] = std::fmaf(noise, drawn[k], to[k]);
  if (!bytes) return;
  const vf low = broadcast(0.0f), high = broadcast(255.0f),
           whole = broadcast(12582912.0f);  // 1.5 * 2^23: no fraction fits beside it
  for (int k = 0; k < count; k += kWidth) {
    vf v = load(to + k);
    v = select(vi(v > low), v, low), v = select(vi(v < high), v, high);
    store(to + k, (v + whole) - whole);
  }
}

// A piece of an image, from `begin` on, to where it belongs.
void put_piece(const AugmentImages& a, const float* piece, int64_t begin, int count, float* to) {
  if (a.to == Layout::nchw || a.C == 1) {
    for (int k = 0; k < count; ++k) to[begin + k] = a.scale * piece[k];
    return;
  }
  const int64_t plane = int64_t(a.H) * a.W;
  for (int k = 0; k < count;) {
    const int64_t c = (begin + k) / plane, inside = begin + k - c * plane;
    const int end = static_cast<int>(std::min<int64_t>(count, k + plane - inside));
    float* at = to + inside * a.C + c;
    for (; k < end; ++k, at += a.C) *at = a.scale * piece[k];
  }
}

// body(offset in the piece, rows of all channels passed, column, elements): the piece row by row.
template <class Body>
void for_pixel_rows(const AugmentImages& a, int64_t begin, int count, Body&& body) {
  int64_t row = begin / a.W;
  int column = static_cast<int>(begin - row * a.W);
  for (int k = 0; k < count; ++row, column = 0) {
    const int n = std::min(count - k, a.W - column);
    body(k, row, column, n);
    k += n;
  }
}

template <class Pixel>
void augment(const AugmentImages& a) {
  const int64_t size = int64_t(a.C) * a.H * a.W;
  const int32_t start = *a.cursor.ptr<int32_t>();
  const auto epoch = static_cast<uint32_t>(*a.epoch.ptr<int32_t>());
  parallel(a.N, [&](int64_t n, int) {
    const Pixel* image = a.images.ptr<Pixel>() + a.order.ptr<int32_t>()[start + n] * size;
    const AugmentDraw drawing = {static_cast<uint32_t>(a.numbers.ptr<int32_t>()[start + n]), epoch, static_cast<uint32_t>(a.seed),
                                 static_cast<uint32_t>(static_cast<uint64_t>(a.seed) >> 32)};
    alignas(64) uint32_t words[kDraws];
    drawing.words(0, kAugmentStream, words);
    const ImageChange change = ImageChange::of(a, words, words + 4);
    std::vector<int32_t> columns(static_cast<size_t>(a.W));
    for (int w = 0; w < a.W; ++w) columns[static_cast<size_t>(w)] = change.column(w);
    alignas(64) float piece[kPiece] = {}, drawn[kPiece];
    for (int64_t begin = 0; begin < size; begin += kPiece) {
      const int count = static_cast<int>(std::min<int64_t>(kPiece, size - begin));
      for_pixel_rows(a, begin, count, [&](int k, int64_t row, int column, int many) {
        const int64_t channel = row / a.H;
        const Pixel* from = image + (channel * a.H + change.row(static_cast<int>(row - channel * a.H))) * a.W;
        const int32_t* places = columns.data() + column;
        for (int w = 0; w < many; ++w) piece[k + w] = static_cast<float>(from[places[w]]);
      });
      if (a.y) put_piece(a, piece, begin, count, a.y.ptr() + n * size);
      if (a.noise > 0.0f) {
        drawing.normal(begin, count, drawn);
        add_noise(piece, drawn, a.noise, count, sizeof(Pixel) == 1);
      }
      if (a.cutout > 0)
        for_pixel_rows(a, begin, count, [&](int k, int64_t row, int column, int many) {
          const int line = static_cast<int>(row % a.H);
          if (line < change.top || line >= change.top + change.side) return;
          const int from = std::max(column, change.left), to = std::min(column + many, change.left + change.side);
          for (int w = from; w < to; ++w) piece[k + w - column] = 0.0f;
        });
      put_piece(a, piece, begin, count, a.x.ptr() + n * size);
    }
  });
}

void run_augment(const AugmentImages& a, const Context&) {
  if (a.dtype == DType::u8)
    augment<uint8_t>(a);
  else
    augment<float>(a);
}

}  // namespace

Entry<AugmentImages> augment_images() { return {run_augment, augment_images_error, nullptr, nullptr}; }

}  // namespace warploom::cpu
