// data.cpp - layout conversion, gathering a batch of images, the cursor. One task per image.
#include "common.h"
#include "entries.h"

namespace warploom::cpu {
namespace {

// y[j][i] = scale * x[i][j] for x [rows, columns]: blocks of 16 x 16, so that both sides stay in the cache.
template <class T>
void transpose(const T* x, float* y, int64_t rows, int64_t columns, float scale) {
  constexpr int64_t B = 16;
  for (int64_t j0 = 0; j0 < columns; j0 += B)
    for (int64_t i0 = 0; i0 < rows; i0 += B)
      for (int64_t j = j0; j < std::min(columns, j0 + B); ++j)
        for (int64_t i = i0; i < std::min(rows, i0 + B); ++i) y[j * rows + i] = scale * static_cast<float>(x[i * columns + j]);
}

template <class T>
void gather(const GatherImages& a) {
  const int64_t plane = int64_t(a.H) * a.W, size = plane * a.C;
  const T* images = a.images.ptr<T>();
  const int32_t* order = a.order.ptr<int32_t>() + *a.cursor.ptr<int32_t>();
  parallel(a.N, [&](int64_t n, int) {
    const T* x = images + order[n] * size;
    float* y = a.x.ptr() + n * size;
    if (a.to == Layout::nhwc)
      transpose(x, y, a.C, plane, a.scale);
    else
      for (int64_t i = 0; i < size; ++i) y[i] = a.scale * static_cast<float>(x[i]);
  });
}

}  // namespace

void layout_convert(const LayoutConvert& a, const Context&) {
  const int64_t plane = int64_t(a.H) * a.W, size = plane * a.C;
  parallel(a.N, [&](int64_t n, int) {
    const float* x = a.x.ptr() + n * size;
    float* y = a.y.ptr() + n * size;
    if (a.from == a.to || a.C == 1 || plane == 1)
      std::copy(x, x + size, y);
    else if (a.from == Layout::nchw)
      transpose(x, y, a.C, plane, 1.0f);
    else
      transpose(x, y, plane, a.C, 1.0f);
  });
}

void gather_images(const GatherImages& a, const Context&) {
  if (a.dtype == DType::u8)
    gather<uint8_t>(a);
  else
    gather<float>(a);
}

void advance_cursor(const AdvanceCursor& a, const Context&) { *a.cursor.ptr<int32_t>() += a.step; }

}  // namespace warploom::cpu
