// pack_weights.cu (v7): w rounded to T and laid out as wgmma reads it from shared memory (pack_weights.h)
// Layout: w hwio [KH, KW, C_in, C_out] -> packed [n_tiles][chunks][taps][columns][128 bytes].
// One block owns one tap of 32 n x 32 k, which turn around in shared memory where w runs along n; a thread four k of one n.
// From v5: new; v5 rounds weights in every block that loads them. Expected bottleneck: memory, small.
// Preconditions: fewer than 2^31 weights; at most 65535 taps.
#include "../common/summed_taps.cuh"
#include "pack_weights.h"

namespace warploom::v7 {

constexpr int kSide = 32, kPackThreads = 256;

template <class T, WeightForm kForm>
__global__ __launch_bounds__(kPackThreads) void pack_weights_kernel(int n_channels, int k_channels, int columns, int chunks,
                                                                    int taps, int n_blocks,
                                                                    const float* __restrict__ w,  // hwio
                                                                    unsigned char* __restrict__ packed) {
  if constexpr (!kHasWgmma) return;
  WL_SHARED(float, tile, [kSide][kSide + 1]);  // [n][k]
  const int n0 = static_cast<int>(blockIdx.x) % n_blocks * kSide, k0 = static_cast<int>(blockIdx.x) / n_blocks * kSide;
  const int tap = static_cast<int>(blockIdx.y), plane = n_channels * k_channels;
  const int lane = static_cast<int>(threadIdx.x) % kSide;
  for (int line = static_cast<int>(threadIdx.x) / kSide; line < kSide; line += kPackThreads / kSide) {
    const int n = kForm == WeightForm::transposed ? n0 + line : n0 + lane;
    const int k = kForm == WeightForm::transposed ? k0 + lane : k0 + line;
    float v = 0.0f;
    if (n < n_channels && k < k_channels) {
      if constexpr (kForm == WeightForm::transposed) v = w[tap * plane + n * k_channels + k];
      if constexpr (kForm == WeightForm::forward) v = w[tap * plane + k * n_channels + n];
      if constexpr (kForm == WeightForm::upsampled)
        for (int t = 0; t < 9; ++t)
          if (sum_holds_tap(tap, t)) v += w[t * plane + k * n_channels + n];
    }
    tile[n - n0][k - k0] = v;
  }
  __syncthreads();
  const int n = static_cast<int>(threadIdx.x) / 8, quad = static_cast<int>(threadIdx.x) % 8;
  const float* v = &tile[n][4 * quad];
  const int at = n0 + n, chunk = (k0 + 4 * quad) / kChunk<T>, in_chunk = (k0 + 4 * quad) % kChunk<T> * T::kBytes;
  const int64_t row = (static_cast<int64_t>(at / columns * chunks + chunk) * taps + tap) * columns + at % columns;
  unsigned char* to = packed + row * kRowBytes + ((in_chunk / 16) ^ (at & 7)) * 16 + in_chunk % 16;
  if constexpr (T::kBytes == 2)
    *reinterpret_cast<uint2*>(to) = make_uint2(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
  else
    *reinterpret_cast<uint4*>(to) = make_uint4(round_tf32(__float_as_uint(v[0])), round_tf32(__float_as_uint(v[1])),
                                               round_tf32(__float_as_uint(v[2])), round_tf32(__float_as_uint(v[3])));
}

template <class T>
void pack_weights(const Context& context, WeightForm form, const HaloGemm& g, int columns, const float* w,
                  unsigned char* packed) {
  const int n_blocks = g.n_tiles * columns / kSide, k_blocks = g.chunks * kChunk<T> / kSide, taps = g.taps_h * g.taps_w;
  auto kernel = form == WeightForm::forward      ? pack_weights_kernel<T, WeightForm::forward>
                : form == WeightForm::transposed ? pack_weights_kernel<T, WeightForm::transposed>
                                                 : pack_weights_kernel<T, WeightForm::upsampled>;
  launch(context, "v7::pack_weights_kernel", kernel,
         dim3(blocks_for(int64_t(n_blocks) * k_blocks, 1), static_cast<unsigned>(taps)), dim3(kPackThreads), 0, g.n_channels,
         g.k_channels, columns, g.chunks, taps, n_blocks, w, packed);
}

template void pack_weights<Bf16>(const Context&, WeightForm, const HaloGemm&, int, const float*, unsigned char*);
template void pack_weights<F16>(const Context&, WeightForm, const HaloGemm&, int, const float*, unsigned char*);
template void pack_weights<Tf32>(const Context&, WeightForm, const HaloGemm&, int, const float*, unsigned char*);

}  // namespace warploom::v7
