// few_channels_product.cu (v5): out[pixel, n] = sum over k of window[pixel, k] * w[k, n], k = (tap, channel) with at most 4 channels: forward
//   from an image, and the gradient of the input of a layer with few outputs
// Layout: source [N, src_H, src_W, channels], w hwio: [KH, KW, channels, others] or, mirrored, [KH, KW, others, channels]; out [N, rows,
//   cols, others] and, of a pool, codes the same, one byte each (conv2d_forward.cu).
// One block owns a box of 128 pixels and some tiles of output channels, a warp 32 pixels of them; the whole sum lies in shared memory.
// From implicit_gemm.cuh: windows are gathered from staged rows (few_channels.cuh), once for all output channels. Expected
//   bottleneck: stores.
// Preconditions: few_channels_product_fits; bf16 and tf32 need sm_80, fp16 sm_75.
#include <type_traits>

#include "few_channels.cuh"
#include "gradient_scale.cuh"

namespace warploom::v5 {
inline namespace few_channels_product_kernels {

template <class T>
using ProductTile = TensorTile<T, kBoxPixels, 64, 4, 1, true, true, 3, true>;
template <class T>
using NarrowProductTile = TensorTile<T, kBoxPixels, 16, 4, 1, true, true, 4, true>;

// Weights on their way: a tile's rows of w as they lie in memory, `pieces` of `length` floats. An element of an even number of
// channels would meet the bank of its 8th or 16th neighbour: a word is left out after each 32.
struct StagedWeights {
  int pieces, length, unit;  // unit: floats from one output channel to the next
  bool skewed;
  __host__ __device__ StagedWeights(const FewChannels& g, int BN)
      : pieces(g.mirrored ? g.taps_h * g.taps_w : g.sum),
        length(g.mirrored ? BN * g.channels : BN),
        unit(g.mirrored ? g.channels : 1),
        skewed(g.mirrored && g.channels % 2 == 0) {}
  __host__ __device__ int floats() const { return (pieces * length + (skewed ? pieces * length / 32 : 0) + 3) / 4 * 4; }
  __device__ __forceinline__ int at(int i) const { return skewed ? i + i / 32 : i; }
};

template <class Tile>
int shared_bytes(const FewChannels& g) {
  const int steps = (g.sum + Tile::BK - 1) / Tile::BK;
  return steps * Tile::kStageBytes + 4 * (g.staged_floats + StagedWeights(g, Tile::BN).floats() + g.offsets);
}

template <class Tile, int kCopies, bool kPool, bool kGradient>
__global__ __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor) void conv2d_few_channels_kernel(
    FewChannels g, int tiles_per_block, Epilogue epilogue, FastDivisor by_length,
    const float* __restrict__ source,   // [N, src_H, src_W, channels]
    const float* __restrict__ w,        // [KH, KW, channels, others], mirrored [KH, KW, others, channels]
    const float* __restrict__ scale,    // [1], of fp16 gradients
    unsigned char* __restrict__ codes,  // [N, rows, cols, others] or null
    void* out) {                        // [N, rows, cols, others], may be epilogue.output
  using T = typename Tile::T;
  if constexpr (!kCompiledHere<T>) return;
  using A = typename Tile::A;
  using B = typename Tile::B;
  static_assert(Tile::kThreads == kBoxPixels, "a thread builds the row of one pixel");
  constexpr int kElements = 16 / T::kBytes, kChunks = A::kChunks;
  WL_DYNAMIC_SHARED(unsigned char, shared);
  const int thread = static_cast<int>(threadIdx.x), steps = (g.sum + Tile::BK - 1) / Tile::BK;
  const StagedWeights layout(g, Tile::BN);
  float* const staged = reinterpret_cast<float*>(shared + steps * Tile::kStageBytes);
  float* const weights = staged + g.staged_floats;
  int* const offsets = reinterpret_cast<int*>(weights + layout.floats());

  const int tiles = (g.others + Tile::BN - 1) / Tile::BN, per_box = (tiles + tiles_per_block - 1) / tiles_per_block;
  const int number = static_cast<int>(blockIdx.x) / per_box;
  const int first = (static_cast<int>(blockIdx.x) - number * per_box) * tiles_per_block * Tile::BN;
  const int last = min(first + tiles_per_block * Tile::BN, g.others);
  const Box box(g, number);

  auto stage_weights = [&](int n0) {
    const int count = layout.pieces * layout.length, row = g.others * layout.unit;
    auto copy = [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      for (int i = thread * kWidth; i < count; i += Tile::kThreads * kWidth) {
        const int piece = by_length.quotient(i), at = n0 * layout.unit + by_length.remainder(i, piece);
        copy_async<4 * kWidth>(weights + layout.at(i), w + piece * row + at, at < row);
      }
    };
    if (g.vector_w)
      copy(std::integral_constant<int, 4>());
    else
      copy(std::integral_constant<int, 1>());
  };
  stage_map(g, box, source, staged);
  stage_weights(first);
  commit_copies();
  find_offsets(g, offsets);
  float gradient_scale = 1.0f;
  if constexpr (kGradient && kScaled<T>) gradient_scale = *scale * kScaleOfCopies<kCopies>;
  wait_copies<0>();
  __syncthreads();

  const float* const pixel = staged + staged_pixel(g, thread);
  for (int chunk = 0; chunk < steps * kChunks; ++chunk) {
    float v[kElements];
    window_chunk<T, kCopies, kGradient>(v, pixel, offsets, chunk * kElements, gradient_scale);
    store_chunk<T>(shared + chunk / kChunks * Tile::kStageBytes + A::chunk_at(thread, chunk % kChunks), v);
  }
  const int64_t out_image = static_cast<int64_t>(box.image) * g.rows * g.cols * g.others;
  out = element_at<T>(out, out_image, g.out_bytes);
  if (kPool && codes) codes += out_image;
  const float unscale = kGradient && kScaled<T> ? reciprocal_of_power(gradient_scale) : 1.0f;
  for (int n0 = first; n0 < last; n0 += Tile::BN) {
    {
      const int n = thread % Tile::BN;
      for (int chunk = thread / Tile::BN; chunk < steps * kChunks; chunk += Tile::kThreads / Tile::BN) {
        float v[kElements];
        WL_UNROLL
        for (int e = 0; e < kElements; ++e) {
          const int k = chunk * kElements + e, tap = g.by_channels.quotient(k);
          const int row = g.mirrored ? tap * layout.length + g.by_channels.remainder(k, tap) : k * layout.length;
          const float value = weights[layout.at((k < g.sum ? row : 0) + n * layout.unit)];  // without a branch
          v[e] = k < g.sum ? value : 0.0f;
        }
        store_chunk<T>(shared + chunk / kChunks * Tile::kStageBytes + A::kBytes + B::chunk_at(n, chunk % kChunks), v);
      }
    }
    __syncthreads();  // both operands are built, and the weights have been read
    if (n0 + Tile::BN < last) stage_weights(n0 + Tile::BN);
    commit_copies();
    float sum[Tile::MT][Tile::NT][4];
    clear_sums<Tile>(sum);
    const int first_n = n0 + first_column<Tile>();
    for (int step = 0; step < steps; ++step) multiply_stage<Tile>(shared + step * Tile::kStageBytes, sum);

    add_bias(sum, epilogue.bias, first_n, g.others, g.pairs);
    if constexpr (kGradient && kScaled<T>) scale_all(sum, unscale);
    if constexpr (!kPool) activate_all(sum, epilogue);
    with_pairs(g.pairs, [&](auto pairs) {
      for_each_row<Tile>([&](int i, int half, int m) {
        int at;
        const bool inside = box.find(g, kPool ? m / 4 : m, at);
        const int to = at * g.others;
        if constexpr (kPool) {
          store_pooled_row<T>(sum[i], half, epilogue, first_n, g.others, pairs, inside, element_at<T>(out, to, g.out_bytes),
                              g.out_bytes, codes ? codes + to : nullptr);
        } else {
          if (kGradient && epilogue.output && inside)
            take_slopes<T>(sum[i], half, epilogue, out_image + to, first_n, g.others, pairs);
          store_row<T>(sum[i], half, first_n, g.others, pairs, inside, element_at<T>(out, to, g.out_bytes), g.out_bytes);
        }
      });
    });
    wait_copies<0>();
    __syncthreads();  // the next weights are there, and all are done with these
  }
}

template <class Tile>
void run_with(const Context& context, FewChannels& g, const float* source, const float* w, const float* scale,
              const Epilogue& epilogue, void* out, unsigned char* codes) {
  if (g.boxes == 0) return;
  const StagedWeights layout(g, Tile::BN);
  g.vector_w = !layout.skewed && g.others * layout.unit % 4 == 0 && aligned16(w);
  g.pairs = g.others % 2 == 0 && aligned16(out, codes, epilogue.bias, epilogue.output);
  // Windows are built once for all output channels, where there are boxes enough to fill a large GPU.
  const int64_t tiles = (g.others + Tile::BN - 1) / Tile::BN;
  const int64_t parts = std::min(tiles, (kFewChannelBlocks + g.boxes - 1) / g.boxes);
  const int per_block = static_cast<int>((tiles + parts - 1) / parts);
  const int64_t blocks = g.boxes * ((tiles + per_block - 1) / per_block);
  auto launch_with = [&](auto kernel) {
    launch(context, "v5::conv2d_few_channels_kernel", kernel, dim3(blocks_for(blocks, 1)), dim3(Tile::kThreads),
           shared_bytes<Tile>(g), g, per_block, epilogue, FastDivisor(layout.length), source, w, scale, codes, out);
  };
  if (g.pool)
    launch_with(conv2d_few_channels_kernel<Tile, 1, true, false>);
  else if (g.copies == 2)
    launch_with(conv2d_few_channels_kernel<Tile, 2, false, true>);
  else if (g.mirrored)
    launch_with(conv2d_few_channels_kernel<Tile, 1, false, true>);
  else
    launch_with(conv2d_few_channels_kernel<Tile, 1, false, false>);
}

// f(a tile of the operands' type).
template <class F>
auto with_tile(Precision p, int others, F f) {
  auto run = [&](auto type) {
    using T = decltype(type);
    return others <= 16 ? f(NarrowProductTile<T>()) : f(ProductTile<T>());
  };
  return p == Precision::tf32 ? run(Tf32()) : p == Precision::bf16 ? run(Bf16()) : run(F16());
}

}  // namespace few_channels_product_kernels

bool few_channels_product_fits(const FewChannels& g, Precision p) {
  return with_tile(p, g.others, [&](auto tile) { return shared_bytes<decltype(tile)>(g); }) <= shared_limit(p);
}

void few_channels_product(const Context& context, FewChannels g, Precision p, const float* source, const float* w,
                          const float* scale, const Epilogue& epilogue, void* out, unsigned char* codes) {
  with_tile(p, g.others, [&](auto tile) {
    run_with<decltype(tile)>(context, g, source, w, scale, epilogue, out, codes);
    return 0;
  });
}

}  // namespace warploom::v5
