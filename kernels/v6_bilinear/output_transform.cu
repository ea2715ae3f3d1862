// output_transform.cu (v6): y = pool(activation(A M A^T + bias)), and dx = B^T dV B, the overlapping patches of an upsampling scheme
//   added up
// Layout: M, dV [position, tile, channels padded to 4]; y [images, OH, OW, C_out] or pooled [images, OH/2, OW/2, C_out] with a byte of
//   code each (the maximum's position, + 4 where an activation's slope applies); dx [images, H, W, C_in].
// One thread owns a tile's outputs for 2 or 4 neighbouring channels (1 where they are no multiple), in registers throughout.
// New in v6. Tiles hold whole pool windows, so the map before the pool never exists; sums over overlapping patches are gathered
//   from the neighbours' positions, without atomics. Expected bottleneck: memory, loads above all.
// Preconditions: 32-bit offsets within an image and within a chunk; pool 1 or 2.
#include "../common/portable.cuh"
#include "apply.cuh"
#include "entries.h"

namespace warploom::v6 {

template <class S, int kCount, int kPool>
__global__ __launch_bounds__(kTransformThreads,
                             kTransformBlocks) void transform_output_kernel(int count, Tiles tiles, const float* __restrict__ M,
                                                                            int64_t position, int row_length, int OH, int OW,
                                                                            int C_out, Epilogue epilogue, float* __restrict__ y,
                                                                            unsigned char* __restrict__ codes) {
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index >= count) return;
  const Place at(tiles, index, kCount);
  constexpr int P = S::kProducts, D = S::kOut;
  const bool next_row = at.row + 1 < tiles.TH, next_column = at.column + 1 < tiles.TW;
  M += at.tile * row_length + at.channel;
  Pack<kCount> bias;
  if (epilogue.bias) {
    WL_UNROLL
    for (int e = 0; e < kCount; ++e) bias.v[e] = epilogue.bias[at.channel + e];
  }
  const int rows = OH / kPool, cols = OW / kPool, h0 = at.row * (D / kPool), w0 = at.column * (D / kPool);
  const int64_t image = static_cast<int64_t>(at.image) * rows * cols * C_out + at.channel;
  Pack<kCount> above[D];
  apply_2d<MatrixA<S>, kCount>(
      [&](auto i, auto j) {
        Pack<kCount> m;
        constexpr bool below = i == P, right = j == P;  // borrowed from the next tile
        constexpr int p = (below ? S::kBorrow : int(i)) * P + (right ? S::kBorrow : int(j));
        if ((!below || next_row) && (!right || next_column))
          copy_vector<kCount>(m.v, M + p * position + ((below ? tiles.TW : 0) + (right ? 1 : 0)) * row_length);
        return m;
      },
      [&](auto i, Pack<kCount>* line) {
        WL_UNROLL
        for (int j = 0; j < D; ++j) {
          WL_UNROLL
          for (int e = 0; e < kCount; ++e) line[j].v[e] += bias.v[e];
        }
        if constexpr (kPool == 1) {
          const int h = h0 + i;
          if (h >= rows) return;
          WL_UNROLL
          for (int j = 0; j < D; ++j) {
            const int w = w0 + j;
            if (w >= cols) continue;
            WL_UNROLL
            for (int e = 0; e < kCount; ++e) line[j].v[e] = epilogue(line[j].v[e]);
            store_pack(y + image + (h * cols + w) * C_out, line[j]);
          }
        } else if constexpr (i % 2 == 0) {
          WL_UNROLL
          for (int j = 0; j < D; ++j) above[j] = line[j];
        } else {
          const int h = h0 + i / 2;
          if (h >= rows) return;
          WL_UNROLL
          for (int j = 0; j < D / 2; ++j) {
            const int w = w0 + j;
            if (w >= cols) continue;
            store_window(above[2 * j], above[2 * j + 1], line[2 * j], line[2 * j + 1], epilogue, y, codes,
                         image + (h * cols + w) * C_out);
          }
        }
      });
}

void transform_output(const Context& context, Scheme scheme, Tiles tiles, const float* M, int64_t position, const Result& to) {
  const Epilogue epilogue{to.bias, to.activation, to.slope};
  with_scheme(scheme, [&](auto s) {
    using S = decltype(s);
    auto with = [&](auto count, auto pool) {
      constexpr int kCount = decltype(count)::value;
      tiles.by_group = FastDivisor(to.C / kCount);
      const int threads = tiles.rows * tiles.TW * (to.C / kCount);
      launch(context, "v6::transform_output_kernel", transform_output_kernel<S, kCount, decltype(pool)::value>,
             dim3(blocks_for(threads, kTransformThreads)), dim3(kTransformThreads), 0, threads, tiles, M, position, padded(to.C),
             to.H, to.W, to.C, epilogue, to.y, to.codes);
    };
    using One = std::integral_constant<int, 1>;
    const bool wide = to.C % kWide<S> == 0 && aligned16(to.y, to.codes);
    if constexpr (S::kUp == 1) {
      if (to.pool == 2) {
        if (wide) return with(std::integral_constant<int, kWide<S>>(), std::integral_constant<int, 2>());
        return with(One(), std::integral_constant<int, 2>());
      }
    }
    if (wide) return with(std::integral_constant<int, kWide<S>>(), One());
    with(One(), One());
  });
}

template <class S, int kCount>
__global__ __launch_bounds__(kTransformThreads,
                             kTransformBlocks) void collect_input_kernel(int count, Tiles tiles, const float* __restrict__ dV,
                                                                         int64_t position, int row_length, int H, int W, int C,
                                                                         float* __restrict__ dx) {  // [images, H, W, C]
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index >= count) return;
  const Place at(tiles, index, kCount);
  constexpr int P = S::kProducts;
  dV += at.tile * row_length + at.channel;
  const int h0 = at.row * S::kInStep, w0 = at.column * S::kInStep;
  dx += static_cast<int64_t>(at.image) * H * W * C + at.channel;
  apply_2d<MatrixGather<S>, kCount>(
      [&](auto i, auto j) {
        Pack<kCount> m;
        constexpr int down = int(i) / P - 1, right = int(j) / P - 1, p = int(i) % P * P + int(j) % P;
        const int row = at.row + down, column = at.column + right;
        if (row >= 0 && row < tiles.TH && column >= 0 && column < tiles.TW)
          copy_vector<kCount>(m.v, dV + p * position + (down * tiles.TW + right) * row_length);
        return m;
      },
      [&](auto i, Pack<kCount>* line) {
        if (h0 + i >= H) return;
        WL_UNROLL
        for (int j = 0; j < S::kInStep; ++j)
          if (w0 + j < W) store_pack(dx + ((h0 + i) * W + w0 + j) * C, line[j]);
      });
}

void collect_input(const Context& context, Scheme scheme, Tiles tiles, const float* dV, int64_t position, int H, int W, int C,
                   float* dx) {
  auto run = [&](auto s, auto count) {
    constexpr int kCount = decltype(count)::value;
    tiles.by_group = FastDivisor(C / kCount);
    const int threads = tiles.rows * tiles.TW * (C / kCount);
    launch(context, "v6::collect_input_kernel", collect_input_kernel<decltype(s), kCount>,
           dim3(blocks_for(threads, kTransformThreads)), dim3(kTransformThreads), 0, threads, tiles, dV, position, padded(C), H,
           W, C, dx);
  };
  auto choose = [&](auto s) {
    constexpr int kCount = kWide<decltype(s)>;
    if (C % kCount == 0 && aligned16(dx)) return run(s, std::integral_constant<int, kCount>());
    run(s, std::integral_constant<int, 1>());
  };
  if (scheme == Scheme::upsample9) return choose(Upsample9());
  choose(Upsample25());
}

}  // namespace warploom::v6
