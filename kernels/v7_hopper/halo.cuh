// halo.cuh (v7): a box of pixels and what taps reach around it, on its way from the copy engine to ldmatrix: the part that all three
//   kernels share
// Layout: as it comes, a unit: [images][unit_h][unit_w][128 bytes of channels: 32 of float32, 64 of 16 bits], zeros outside the image,
//   behind it the codes of a pool, a byte each.
//   Rounded, a halo: [images][h][pitch][128 bytes of channels], 16-byte chunks exchanged by the pixel's number modulo 8, as the copy
//   engine exchanges them itself: a map of 16 bits without a pool comes as a halo, pitch and all.
// Some warps round a unit together. Unpooling happens here: a pixel of the halo is one of the 2 x 2 that a pixel of the unit stands for.
// Preconditions: the copies of the unit have landed; nobody reads the halo any more.
#pragma once

#include "../common/bulk_copy.cuh"
#include "../common/fast_divisor.cuh"
#include "../common/pooled_epilogue.cuh"
#include "../common/tensor_core.cuh"

namespace warploom::v7 {

constexpr int kRowBytes = 128;  // of a halo's pixel: 64 elements of 16 bits, 32 of tf32
constexpr int kSharedLimit = 227 * 1024;
template <class T>
constexpr int kChunk = kRowBytes / T::kBytes;  // channels of a halo

struct Halo {
  int images = 1, h = 0, w = 0;
  int pitch = 0;                // pixels from one row to the next; ldmatrix must find 8 different numbers modulo 8 (choice.h)
  int unit_h = 0, unit_w = 0;   // fewer than h and w where the unit is pooled
  float negative_slope = 0.0f;  // of the activation before a pool
  int bytes = 4;                // of an element of the map (half_map.cuh)
  bool direct = false;          // the copy engine writes it, there are no units
  FastDivisor by_pitch, by_h;
};
__host__ __device__ __forceinline__ int unit_channels(const Halo& h) { return kRowBytes / h.bytes; }
template <class T>
__host__ __device__ __forceinline__ int units_of(const Halo& h) {  // that make a halo's channels
  return kChunk<T> / unit_channels(h);
}
__host__ __device__ __forceinline__ int unit_pixels(const Halo& h) { return h.images * h.unit_h * h.unit_w; }
__host__ __device__ __forceinline__ int map_bytes(const Halo& h) { return unit_pixels(h) * kRowBytes; }  // of a unit
__host__ __device__ __forceinline__ int unit_bytes(const Halo& h, bool codes) {
  return h.direct ? 0 : map_bytes(h) + (codes ? (unit_pixels(h) * unit_channels(h) + 127) / 128 * 128 : 0);
}
__host__ __device__ __forceinline__ int copied_bytes(const Halo& h) { return h.images * h.h * h.pitch * kRowBytes; }
// A stage's: the copy engine exchanges chunks by their address.
__host__ __device__ __forceinline__ int halo_bytes(const Halo& h) { return (copied_bytes(h) + 1023) / 1024 * 1024; }

template <int kCount>
struct Maps {
  TensorMap of[kCount];
};
using PhaseMaps =
    Maps<4>;  // of one map by the parities of row and column: [2 * (row % 2) + column % 2], each of half its height and width

struct Stages {  // of a ring: which one, and the parity of its round
  int at = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void next(int count) {
    if (++at == count) at = 0, parity ^= 1u;
  }
};

// One thread: has unit `number` of the channels brought, from row and column of the halo on (in the source before a pool).
template <bool kUnpool>
__device__ __forceinline__ void bring_unit(const Halo& h, unsigned char* unit, const TensorMap& source, const TensorMap& codes,
                                           int channel, int row, int column, int image, AsyncBarrier* full) {
  arrive_expecting(full, static_cast<uint32_t>(map_bytes(h) + (kUnpool ? unit_pixels(h) * unit_channels(h) : 0)));
  bulk_copy_tensor(unit, source, channel, kUnpool ? column >> 1 : column, kUnpool ? row >> 1 : row, image, full);
  if constexpr (kUnpool) bulk_copy_tensor(unit + map_bytes(h), codes, channel, column >> 1, row >> 1, image, full);
}

// The threads of kWarps warps, this one's number among them `warp`: unit u of the halo's channels.
template <class T, bool kUnpool, int kWarps>
__device__ __forceinline__ void round_unit(const Halo& h, int warp, int u, const unsigned char* unit, unsigned char* halo,
                                           float scale, int first_row, int first_column) {
  // A thread takes four channels of a pixel. Of float32 a warp has four pixels, and a half warp stores 64 bytes of two of them: four
  // apart, so that they meet no bank twice. Of 16 bits it has two neighbours, of which a half warp loads and stores all 128 bytes.
  const int lane = static_cast<int>(threadIdx.x) % 32, places = h.images * h.h * h.pitch;
  const bool halves = in_halves<T>(h.bytes);
  const int lanes = halves ? 16 : 8, quad = lane % lanes, in_eight = halves ? lane / 16 : lane / 8 % 2 * 4 + lane / 16;
  for (int some = warp * (32 / lanes); some / 8 * 8 < places; some += kWarps * (32 / lanes)) {
    const int p = (halves ? some : some / 8 * 8 + some % 8 / 2) + in_eight;
    if (p >= places) continue;
    const int line = h.by_pitch.quotient(p), column = h.by_pitch.remainder(p, line);
    if (column >= h.w) continue;
    int pixel = line * h.w + column, position = 0;
    if constexpr (kUnpool) {
      const int image = h.by_h.quotient(line), row = first_row + h.by_h.remainder(line, image), q = first_column + column;
      pixel = (image * h.unit_h + (row >> 1) - (first_row >> 1)) * h.unit_w + (q >> 1) - (first_column >> 1);
      position = (row & 1) * 2 + (q & 1);
    }
    float4 v;
    if (kUnpool && halves) {
      if constexpr (T::kBytes == 2) {
        const uint2 words = *reinterpret_cast<const uint2*>(unit + pixel * kRowBytes + quad * 8);
        const float2 low = widen2<T>(words.x), high = widen2<T>(words.y);
        v = make_float4(low.x, low.y, high.x, high.y);
      }
    } else {
      v = *reinterpret_cast<const float4*>(unit + pixel * kRowBytes + quad * 16);
    }
    if constexpr (kUnpool) {
      const uint32_t code = *reinterpret_cast<const uint32_t*>(unit + map_bytes(h) + (pixel * lanes + quad) * 4);
      v.x = unpooled(v.x, code, position, h.negative_slope), v.y = unpooled(v.y, code >> 8, position, h.negative_slope);
      v.z = unpooled(v.z, code >> 16, position, h.negative_slope), v.w = unpooled(v.w, code >> 24, position, h.negative_slope);
    }
    if constexpr (T::kBytes == 2) {
      const int chunk = u * (lanes / 2) + quad / 2;
      *reinterpret_cast<uint2*>(halo + p * kRowBytes + (chunk ^ (p & 7)) * 16 + quad % 2 * 8) =
          make_uint2(pack2<T>(v.x * scale, v.y * scale), pack2<T>(v.z * scale, v.w * scale));
    } else {
      *reinterpret_cast<uint4*>(halo + p * kRowBytes + (quad ^ (p & 7)) * 16) =
          make_uint4(round_tf32(__float_as_uint(v.x)), round_tf32(__float_as_uint(v.y)), round_tf32(__float_as_uint(v.z)),
                     round_tf32(__float_as_uint(v.w)));
    }
  }
}

}  // namespace warploom::v7
