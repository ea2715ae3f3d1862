// input_transform.cu (v6): V = B x B^T, and dM = A^T dy A: patches of a map to a scheme's positions
// Layout: x [images, H, W, C] (dy the same, or pooled with a byte of code each); V, dM [position, tile, C padded to 4].
// One thread owns a tile's patch for 2 or 4 neighbouring channels (1 where they are no multiple), in registers throughout.
// New in v6; v5 gathers pixels tap by tap. A 2x2 pool is undone in the loads. Expected bottleneck: memory, stores above all.
// Preconditions: 32-bit offsets within an image and within a chunk.
#include "../common/portable.cuh"
#include "apply.cuh"
#include "entries.h"

namespace warploom::v6 {

template <int kCount>
__device__ __forceinline__ uint32_t load_codes(const unsigned char* p) {
  if constexpr (kCount == 4)
    return *reinterpret_cast<const uint32_t*>(p);
  else if constexpr (kCount == 2)
    return *reinterpret_cast<const uint16_t*>(p);
  else
    return p[0];
}

// Pixels of one image for a thread's channels; zero outside.
template <int kCount, bool kUnpool>
struct Reader {
  const Map& map;
  const float* data;
  const unsigned char* codes = nullptr;
  bool inside;  // padding channels are zero everywhere

  __device__ __forceinline__ Reader(const Map& m, int image, int channel) : map(m), inside(channel < m.C) {
    const int64_t pixels = kUnpool ? (m.H / 2) * (m.W / 2) : m.H * m.W, at = image * pixels * m.C + channel;
    data = m.data + at;
    if constexpr (kUnpool) codes = m.codes + at;
  }
  __device__ __forceinline__ Pack<kCount> operator()(int h, int w) const {
    Pack<kCount> p;
    const int down = kUnpool ? 2 : 1, H = map.H / down, W = map.W / down;
    const int row = h >> (down - 1), col = w >> (down - 1);
    if (!inside || static_cast<unsigned>(row) >= static_cast<unsigned>(H) ||
        static_cast<unsigned>(col) >= static_cast<unsigned>(W))
      return p;
    const int at = (row * W + col) * map.C;
    copy_vector<kCount>(p.v, data + at);
    if constexpr (kUnpool) {
      const uint32_t code = load_codes<kCount>(codes + at), position = static_cast<uint32_t>(h % 2 * 2 + w % 2);
      WL_UNROLL
      for (int e = 0; e < kCount; ++e) {
        const uint32_t mine = code >> (8 * e) & 7u;
        p.v[e] = (mine & 3u) != position ? 0.0f : mine & 4u ? sloped(p.v[e], map.slope) : p.v[e];
      }
    }
    return p;
  }
};

// M: the matrix; kStep: pixels from a patch to the next.
template <class M, int kStep, int kCount, bool kUnpool>
__global__ __launch_bounds__(kTransformThreads, kTransformBlocks) void patch_transform_kernel(
    int count, Tiles tiles, Map map, int before_h, int before_w, int row_length, int64_t position,
    float* __restrict__ to) {  // [position, tile, row_length]
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index >= count) return;
  const Place at(tiles, index, kCount);
  const int h0 = at.row * kStep - before_h, w0 = at.column * kStep - before_w;
  const Reader<kCount, kUnpool> read(map, at.image, at.channel);
  to += at.tile * row_length + at.channel;
  apply_2d<M, kCount>([&](auto i, auto j) { return read(h0 + i, w0 + j); },
                      [&](auto i, const Pack<kCount>* y) {
                        constexpr int R = kMatrixRows<M>;
                        unrolled<R>([&](auto j) { store_pack(to + (i * R + j) * position, y[j]); });
                      });
}

template <class M, int kStep, int kWidest>
static void run(const Context& context, const char* name, Tiles tiles, const Map& map, int before_h, int before_w, float* to,
                int64_t position) {
  const int row_length = padded(map.C);
  auto with = [&](auto count, auto unpool) {
    constexpr int kCount = decltype(count)::value;
    tiles.by_group = FastDivisor(row_length / kCount);
    const int threads = tiles.rows * tiles.TW * (row_length / kCount);
    launch(context, name, patch_transform_kernel<M, kStep, kCount, decltype(unpool)::value>,
           dim3(blocks_for(threads, kTransformThreads)), dim3(kTransformThreads), 0, threads, tiles, map, before_h, before_w,
           row_length, position, to);
  };
  const bool wide = map.C % kWidest == 0 && aligned16(map.data, map.codes);
  if (map.codes) {
    if (wide) return with(std::integral_constant<int, kWidest>(), std::true_type());
    return with(std::integral_constant<int, 1>(), std::true_type());
  }
  if (wide) return with(std::integral_constant<int, kWidest>(), std::false_type());
  with(std::integral_constant<int, 1>(), std::false_type());
}

void transform_input(const Context& context, Scheme scheme, Tiles tiles, const Map& x, int pad_top, int pad_left, float* V,
                     int64_t position) {
  with_scheme(scheme, [&](auto s) {
    using S = decltype(s);
    run<MatrixB<S>, S::kInStep, kWide<S>>(context, "v6::transform_input_kernel", tiles, x, pad_top, pad_left, V, position);
  });
}

void transform_gradient(const Context& context, Scheme scheme, Tiles tiles, const Map& dy, float* dM, int64_t position) {
  with_scheme(scheme, [&](auto s) {
    using S = decltype(s);
    constexpr int kBefore = S::kBorrow >= 0 ? 1 : 0;  // outputs before the tile that its products reach
    run<MatrixAt<S>, S::kOut, kWide<S>>(context, "v6::transform_gradient_kernel", tiles, dy, kBefore, kBefore, dM, position);
  });
}

}  // namespace warploom::v6
