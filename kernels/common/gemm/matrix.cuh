// matrix.cuh - one view for every matrix the convolutions multiply.
//
// A plain row-major matrix, and an NCHW tensor read as [C, N * P] (columns of several images side by side, P pixels each), differ
// only in what happens at an image's last column. So both are one view:
//   element (r, j) = data[((first + j) / image_columns) * image_stride + r * row_stride + (first + j) % image_columns]
// A plain matrix is one image. `first` lets a view begin anywhere, which is how a chunk of columns is cut out.
#pragma once

#include "../portable.cuh"

namespace warploom {

template <class T>
struct MatrixView {
  T* data = nullptr;
  int64_t row_stride = 0;
  int64_t image_stride = 0;
  int image_columns = 1;
  int first = 0;

  __device__ __forceinline__ int64_t column_offset(int j) const {
    const int q = (first + j) / image_columns;
    return q * image_stride + (first + j - q * image_columns);
  }
};

// [rows, columns], row-major, rows `row_stride` apart.
template <class T>
MatrixView<T> plain_matrix(T* data, int64_t columns, int64_t row_stride) {
  return {data, row_stride, 0, static_cast<int>(columns > 0 ? columns : 1), 0};
}

// Columns [first, ...) of [channels, images * pixels] in a tensor [images, total_channels, pixels]; `data` is at the first
// channel.
template <class T>
MatrixView<T> image_matrix(T* data, int64_t total_channels, int64_t pixels, int64_t first) {
  const int64_t image = total_channels * pixels;
  return {data + first / pixels * image, pixels, image, static_cast<int>(pixels), static_cast<int>(first % pixels)};
}

// Columns [first, ...) of a plain matrix, counted as `images` counts its own: the two can then be walked together.
template <class T>
MatrixView<T> plain_matrix_like(const MatrixView<T>& images, T* data, int64_t row_stride) {
  return {data - images.first, row_stride, images.image_columns, images.image_columns, images.first};
}

// Whether four neighbouring columns, counted from a multiple of four, can be moved as one float4.
template <class T>
bool columns_vectorize(const MatrixView<T>& v, int64_t batch_stride) {
  return reinterpret_cast<uintptr_t>(v.data) % 16 == 0 && v.row_stride % 4 == 0 && v.image_stride % 4 == 0 &&
         v.image_columns % 4 == 0 && v.first % 4 == 0 && batch_stride % 4 == 0;
}

}  // namespace warploom
