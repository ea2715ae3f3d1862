// tensor_tile.cuh (v5): sum[m][n] += a[m][k] * b[k][n] on tensor cores, k streaming through shared memory: the inner loop of all
//   three convolution kernels
// Layout: an operand's tile is either along k, [BM or BN rows][64 bytes of k], or across k, [BK rows][BM or BN elements]; rows
//   are cut into 16-byte chunks, whose places are permuted so that neither stores nor ldmatrix meet a bank twice.
// One block owns BM x BN sums, a warp WM x WN of them in mma fragments of 16 x 8; one step is BK = 64 bytes of k.
// From v2: mma.sync instead of FFMA, operands rounded to T on the way in. bf16 and f16 pass through registers (two stages of
//   shared memory), tf32 comes by cp.async and is rounded when it becomes a fragment (four stages). Expected bottleneck: mma
//   issue in the
//   wide tile, loads in the narrow one.
// Preconditions: a Loader (a_at, b_at, a_bytes, b_bytes (half_map.cuh), advance, kKnowsColumns: a_at's e counts its columns, or else is
//   an offset; and what a gradient needs) that says where step after step lies; dynamic shared memory of kSharedBytes.
#pragma once

#include <type_traits>

#include "../common/async_copy.cuh"
#include "../common/pooled_epilogue.cuh"
#include "../common/tensor_core.cuh"
#include "../common/vector.cuh"

namespace warploom::v5 {

template <class T, int kExtent, bool kAlongK>
struct OperandTile {
  static constexpr int kStepK = 64 / T::kBytes;
  static constexpr int kRows = kAlongK ? kExtent : kStepK;
  static constexpr int kColumns = kAlongK ? kStepK : kExtent;
  static constexpr int kChunks = kColumns * T::kBytes / 16;  // of a row
  static constexpr int kBytes = kExtent * 64;
  static constexpr int kQuads = kColumns / 4;  // items of a row: a thread loads 4 neighbouring elements at a time
  static_assert((kChunks & (kChunks - 1)) == 0, "chunks are permuted by exclusive or");

  // 8 rows at one chunk (ldmatrix, stores of 16 bytes) fall into 8 different groups of 4 banks; across k a tf32 fragment is single
  // words, 4 rows of 8 neighbours, which must fall into different pairs of groups.
  static __device__ __forceinline__ int permute(int row) {
    if constexpr (kAlongK || T::kBytes == 2)
      return kChunks >= 8 ? row & 7 : row / (8 / (kChunks < 8 ? kChunks : 8)) & (kChunks - 1);
    else
      return kChunks >= 8 ? 2 * (row & 3) + (row >> 2 & 1) : kChunks == 4 ? row & 2 : 0;
  }
  static __device__ __forceinline__ int chunk_at(int row, int chunk) { return (row * kChunks + (chunk ^ permute(row))) * 16; }
  static __device__ __forceinline__ int quad_at(int row, int quad) {
    const int bytes = quad * 4 * T::kBytes;
    return chunk_at(row, bytes / 16) + bytes % 16;
  }
};

// Gradients of a mean over many elements lie below the smallest fp16: they are scaled to its range first (gradient_scale.cuh).
template <class T>
constexpr bool kScaled = std::is_same<T, F16>::value;

// Before sm_80 an mma is two and fragments live longer: fewer blocks, so that nothing is spilled.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int blocks_per_multiprocessor(int wanted) { return wanted > 3 ? 3 : wanted; }
#else
constexpr int blocks_per_multiprocessor(int wanted) { return wanted; }
#endif

template <class Type, int kM, int kN, int kWarpsM, int kWarpsN, bool kAlongA, bool kAlongB, int kBlocks, bool kInRegisters>
struct TensorTile {
  using T = Type;
  using A = OperandTile<T, kM, kAlongA>;
  using B = OperandTile<T, kN, kAlongB>;
  static constexpr int BM = kM, BN = kN, BK = A::kStepK;
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN, kBlocksPerMultiprocessor = blocks_per_multiprocessor(kBlocks);
  static constexpr int WM = BM / kWarpsM, WN = BN / kWarpsN, MT = WM / 16, NT = WN / 8;
  static constexpr int kWarpColumns = kWarpsN;
  static constexpr bool kAlongKA = kAlongA, kAlongKB = kAlongB;
  static constexpr bool kAsync = T::kBytes == 4 && !kInRegisters;  // what is changed on its way cannot go by cp.async
  static constexpr int kStages = kAsync ? 4 : 2;
  static constexpr int kStageBytes = A::kBytes + B::kBytes, kSharedBytes = kStages * kStageBytes;
  static constexpr int kItemsA = (BM * BK / 4 + kThreads - 1) / kThreads, kItemsB = (BN * BK / 4 + kThreads - 1) / kThreads;
  static_assert(WM % 16 == 0 && WN % 16 == 0, "warps own whole fragments, B's in pairs");
  static_assert(A::kQuads % 4 == 0 && B::kQuads % 4 == 0, "four neighbouring threads load from one row");
  static_assert(kThreads % A::kQuads == 0 && kThreads % B::kQuads == 0, "all items of a thread stand in the same columns");
};

// Blocks per multiprocessor that a gradient's kernel is compiled for: unpooling, single elements above all, needs more registers than
// four leave.
template <class Tile, bool kVector, bool kUnpool>
constexpr int kGradientBlocks =
    kUnpool && !kVector                                                     ? (Tile::kBlocksPerMultiprocessor + 2) / 2
    : kUnpool && Tile::T::kBytes == 2 && Tile::kBlocksPerMultiprocessor > 3 ? 3
                                                                            : Tile::kBlocksPerMultiprocessor;

// Row and column (in elements) of a thread's item l in a tile of one operand, and whether there is one.
template <class Operand, int kThreads>
__device__ __forceinline__ int item_row(int l) {
  return (static_cast<int>(threadIdx.x) + l * kThreads) / Operand::kQuads;
}
template <class Operand>
__device__ __forceinline__ int item_column() {
  return static_cast<int>(threadIdx.x) % Operand::kQuads * 4;
}
// Where tf32's single element e lies from the first of its thread's item: four threads share their items (multiply_stream).
__device__ __forceinline__ int shared_element(int e) { return 4 * e - 3 * (static_cast<int>(threadIdx.x) % 4); }
template <class Operand, int kThreads>
__device__ __forceinline__ bool item_exists(int l) {
  constexpr int kItems = Operand::kRows * Operand::kQuads;
  return kItems % kThreads == 0 || static_cast<int>(threadIdx.x) + l * kThreads < kItems;
}

// Rows (columns) first .. first + 15 of A (of B, as two fragments of 8), 32 bytes of k.
template <class T, class Operand, bool kAlongK, bool kIsA>
__device__ __forceinline__ void load_fragment(const unsigned char* tile, int first, int slab, uint32_t (&r)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if constexpr (kAlongK) {
    const int row = kIsA ? lane % 16 : lane % 8 + lane / 16 * 8, chunk = kIsA ? lane / 16 : lane / 8 % 2;
    load_matrices<4, false>(r, tile + Operand::chunk_at(first + row, 2 * slab + chunk));
  } else if constexpr (T::kBytes == 2) {
    const int row = kIsA ? lane % 8 + lane / 16 * 8 : lane % 16, chunk = kIsA ? lane / 8 % 2 : lane / 16;
    load_matrices<4, true>(r, tile + Operand::chunk_at(16 * slab + row, first / 8 + chunk));
  } else {
    WL_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int k = 8 * slab + lane % 4 + (kIsA ? i / 2 : i % 2) * 4, at = first + lane / 4 + (kIsA ? i % 2 : i / 2) * 8;
      r[i] = *reinterpret_cast<const uint32_t*>(tile + Operand::chunk_at(k, at / 4) + at % 4 * 4);
    }
  }
  if constexpr (T::kBytes == 4) {
    WL_UNROLL
    for (int i = 0; i < 4; ++i) r[i] = round_tf32(r[i]);
  }
}

template <class Tile>
__device__ __forceinline__ void multiply_stage(const unsigned char* tile_a, const unsigned char* tile_b,
                                               float (&sum)[Tile::MT][Tile::NT][4]) {
  using T = typename Tile::T;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int first_m = warp / Tile::kWarpColumns * Tile::WM, first_n = warp % Tile::kWarpColumns * Tile::WN;
  WL_UNROLL
  for (int slab = 0; slab < 2; ++slab) {
    uint32_t a[Tile::MT][4], b[Tile::NT / 2][4];
    WL_UNROLL
    for (int i = 0; i < Tile::MT; ++i)
      load_fragment<T, typename Tile::A, Tile::kAlongKA, true>(tile_a, first_m + 16 * i, slab, a[i]);
    WL_UNROLL
    for (int j = 0; j < Tile::NT / 2; ++j)
      load_fragment<T, typename Tile::B, Tile::kAlongKB, false>(tile_b, first_n + 16 * j, slab, b[j]);
    WL_UNROLL
    for (int i = 0; i < Tile::MT; ++i) {
      WL_UNROLL
      for (int j = 0; j < Tile::NT; ++j) {
        const uint32_t pair[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
        mma<T>(sum[i][j], a[i], pair);
      }
    }
  }
}

template <class Tile>
__device__ __forceinline__ void multiply_stage(const unsigned char* stage, float (&sum)[Tile::MT][Tile::NT][4]) {
  multiply_stage<Tile>(stage, stage + Tile::A::kBytes, sum);
}

template <class Tile>
__device__ __forceinline__ void clear_sums(float (&sum)[Tile::MT][Tile::NT][4]) {
  WL_UNROLL
  for (int i = 0; i < Tile::MT; ++i) {
    WL_UNROLL
    for (int j = 0; j < Tile::NT; ++j) sum[i][j][0] = sum[i][j][1] = sum[i][j][2] = sum[i][j][3] = 0.0f;
  }
}

// What becomes of a gradient on its way into shared memory. Unpooling: `codes` of four neighbouring channels, made by the forward
// entry, tell which of a window's 2 x 2 positions was the maximum and whether the activation's slope applies; `position` is ours.
struct GradientItem {
  uint32_t codes = 0;
  int position = 0;
};

// Four neighbouring elements of a map on their way to shared memory: four floats; or, of a map in 16 bits, the words as they were
// loaded, the first two of one access, or one a single element. Nothing is done to them before they are stored there, or the loop would
// wait for each load at once.
template <class T>
__device__ __forceinline__ void assign_item(float (&to)[4], bool inside, const void* from, int bytes) {
  float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (in_halves<T>(bytes)) {
    if (inside) {
      const float2 words = *static_cast<const float2*>(from);
      v.x = words.x, v.y = words.y;
    }
  } else {
    if (inside) v = *static_cast<const float4*>(from);
  }
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
template <class T>
__device__ __forceinline__ void assign_single(float& to, bool inside, const void* from, int bytes) {
  to = 0.0f;
  if (in_halves<T>(bytes)) {
    if (inside) to = __uint_as_float(*static_cast<const uint16_t*>(from));
  } else {
    if (inside) to = *static_cast<const float*>(from);
  }
}
// The 16-bit elements of an item, two a word.
__device__ __forceinline__ uint2 item_words(const float (&v)[4], bool vector) {
  if (vector) return make_uint2(__float_as_uint(v[0]), __float_as_uint(v[1]));
  return make_uint2(__float_as_uint(v[0]) | __float_as_uint(v[1]) << 16, __float_as_uint(v[2]) | __float_as_uint(v[3]) << 16);
}
template <class T>
__device__ __forceinline__ void widen_item(float (&v)[4], bool vector) {
  const uint2 words = item_words(v, vector);
  const float2 low = widen2<T>(words.x), high = widen2<T>(words.y);
  v[0] = low.x, v[1] = low.y, v[2] = high.x, v[3] = high.y;
}

// The sums over `steps` steps of BK. Loader::kGradientIsA (else B), kUnpools: of the operand that is a gradient; scale(): what it
// is multiplied by.
template <class Tile, class Loader>
__device__ __forceinline__ void multiply_stream(Loader& from, int steps, float (&sum)[Tile::MT][Tile::NT][4]) {
  using T = typename Tile::T;
  using A = typename Tile::A;
  using B = typename Tile::B;
  WL_DYNAMIC_SHARED(unsigned char, shared);
  clear_sums<Tile>(sum);
  if constexpr (Tile::kAsync) {
    // Single elements: four neighbouring threads take the same 16 of a row together, each time four that are neighbours.
    auto copy_item = [](unsigned char* tile, auto operand, int row, int quad, bool vector, auto at) {
      using Operand = decltype(operand);
      const void* p;
      if (vector) {
        const bool inside = at(0, 0, p);
        copy_async<16>(tile + Operand::quad_at(row, quad), p, inside);
      } else {
        const int lane = static_cast<int>(threadIdx.x) % 4;
        WL_UNROLL
        for (int e = 0; e < 4; ++e) {
          const bool inside = at(e, shared_element(e), p);
          copy_async<4>(tile + Operand::quad_at(row, quad - lane + e) + 4 * lane, p, inside);
        }
      }
    };
    auto copy_step = [&](unsigned char* stage) {
      WL_UNROLL
      for (int l = 0; l < Tile::kItemsA; ++l)
        copy_item(stage, A(), item_row<A, Tile::kThreads>(l), item_column<A>() / 4, from.a_vector(),
                  [&](int e, int shared_e, const void*& p) { return from.a_at(l, Loader::kKnowsColumns ? e : shared_e, p); });
      WL_UNROLL
      for (int l = 0; l < Tile::kItemsB; ++l)
        if (item_exists<B, Tile::kThreads>(l))
          copy_item(stage + A::kBytes, B(), item_row<B, Tile::kThreads>(l), item_column<B>() / 4, from.b_vector(),
                    [&](int, int shared_e, const void*& p) { return from.b_at(l, shared_e, p); });
      from.advance();
    };
    WL_UNROLL
    for (int s = 0; s < Tile::kStages - 1; ++s) {
      if (s < steps) copy_step(shared + s * Tile::kStageBytes);
      commit_copies();
    }
    for (int step = 0; step < steps; ++step) {
      wait_copies<Tile::kStages - 2>();  // of this thread; the barrier makes it everybody's
      __syncthreads();                   // and says that all are done with the stage before, which is filled next
      const int ahead = step + Tile::kStages - 1;
      if (ahead < steps) copy_step(shared + ahead % Tile::kStages * Tile::kStageBytes);
      commit_copies();
      multiply_stage<Tile>(shared + step % Tile::kStages * Tile::kStageBytes, sum);
    }
  } else {
    constexpr bool kUnpoolsA = Loader::kUnpools && Loader::kGradientIsA, kUnpoolsB = Loader::kUnpools && !Loader::kGradientIsA;
    float next_a[Tile::kItemsA][4], next_b[Tile::kItemsB][4];
    GradientItem items[Loader::kUnpools ? (kUnpoolsA ? Tile::kItemsA : Tile::kItemsB) : 1];
    auto load_item = [](float (&to)[4], bool vector, int bytes, auto at) {
      const void* p;
      if (vector) {
        const bool inside = at(0, p);
        assign_item<T>(to, inside, p, bytes);
      } else {
        WL_UNROLL
        for (int e = 0; e < 4; ++e) {
          const bool inside = at(e, p);
          assign_single<T>(to[e], inside, p, bytes);
        }
      }
    };
    auto fetch = [&] {
      WL_UNROLL
      for (int l = 0; l < Tile::kItemsA; ++l) {
        load_item(next_a[l], from.a_vector(), from.a_bytes(), [&](int e, const void*& p) { return from.a_at(l, e, p); });
        if constexpr (kUnpoolsA) items[l] = from.gradient_item(l, from.a_vector());
      }
      WL_UNROLL
      for (int l = 0; l < Tile::kItemsB; ++l) {
        load_item(next_b[l], from.b_vector(), from.b_bytes(), [&](int e, const void*& p) { return from.b_at(l, e, p); });
        if constexpr (kUnpoolsB) items[l] = from.gradient_item(l, from.b_vector());
      }
      from.advance();
    };
    auto store_item = [](unsigned char* to, const float (&v)[4], bool vector, int bytes) {
      if constexpr (T::kBytes == 2)
        *reinterpret_cast<uint2*>(to) =
            in_halves<T>(bytes) ? item_words(v, vector) : make_uint2(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
      else
        *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
    };
    // To unpool or to scale the four are widened. (A scaled gradient is float32, but what is no gradient may pass here with a scale of 1:
    // upsample_taps.h.)
    auto store_gradient = [&](unsigned char* to, float (&v)[4], const GradientItem& item, bool vector, int bytes) {
      if constexpr (T::kBytes == 2 && (Loader::kUnpools || kScaled<T>))
        if (in_halves<T>(bytes)) widen_item<T>(v, vector), bytes = 4;
      if constexpr (Loader::kUnpools) {
        WL_UNROLL
        for (int e = 0; e < 4; ++e) v[e] = unpooled(v[e], item.codes >> (8 * e), item.position, from.negative_slope());
      }
      if constexpr (kScaled<T>) {
        WL_UNROLL
        for (int e = 0; e < 4; ++e) v[e] *= from.scale();
      }
      store_item(to, v, vector, bytes);
    };
    (void)items, (void)store_gradient;
    auto store = [&](unsigned char* stage) {
      WL_UNROLL
      for (int l = 0; l < Tile::kItemsA; ++l) {
        unsigned char* to = stage + A::quad_at(item_row<A, Tile::kThreads>(l), item_column<A>() / 4);
        if constexpr (Loader::kIsGradient && Loader::kGradientIsA)
          store_gradient(to, next_a[l], items[kUnpoolsA ? l : 0], from.a_vector(), from.a_bytes());
        else
          store_item(to, next_a[l], from.a_vector(), from.a_bytes());
      }
      WL_UNROLL
      for (int l = 0; l < Tile::kItemsB; ++l) {
        if (!item_exists<B, Tile::kThreads>(l)) continue;
        unsigned char* to = stage + A::kBytes + B::quad_at(item_row<B, Tile::kThreads>(l), item_column<B>() / 4);
        if constexpr (Loader::kIsGradient && !Loader::kGradientIsA)
          store_gradient(to, next_b[l], items[kUnpoolsB ? l : 0], from.b_vector(), from.b_bytes());
        else
          store_item(to, next_b[l], from.b_vector(), from.b_bytes());
      }
    };
    if (steps == 0) return;
    fetch();
    store(shared);
    __syncthreads();
    for (int step = 0; step < steps; ++step) {
      fetch();  // without a branch, or it would sink below the arithmetic it hides behind; past the end it loads nothing
      multiply_stage<Tile>(shared + step % 2 * Tile::kStageBytes, sum);
      if (step + 1 < steps)
        store(shared + (step + 1) % 2 * Tile::kStageBytes);  // last read before the barrier of the step before
      __syncthreads();
    }
  }
}

// Calls body(m, row) for each row of the tile that this thread holds sums of; row(j, value0, value1, n) inside is up to the caller:
// sum_at gives the pair of columns n, n + 1 of fragment j in half h of fragment i.
template <class Tile, class Body>
__device__ __forceinline__ void for_each_row(Body body) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int first_m = warp / Tile::kWarpColumns * Tile::WM + lane / 4;
  WL_UNROLL
  for (int i = 0; i < Tile::MT; ++i) {
    WL_UNROLL
    for (int half = 0; half < 2; ++half) body(i, half, first_m + 16 * i + 8 * half);
  }
}
// The first column of this thread's pairs: pair j stands at first_column() + 8 * j.
template <class Tile>
__device__ __forceinline__ int first_column() {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  return warp % Tile::kWarpColumns * Tile::WN + lane % 4 * 2;
}
// The tiles; kA, kB: the operands' tiles are along k; kR: operands pass through registers whatever their type.
template <class T, bool kA, bool kB, bool kR = false>
using WideTile = TensorTile<T, 128, 128, 2, 4, kA, kB, 1, kR>;
template <class T, bool kA, bool kB, bool kR = false>
using SquareTile = TensorTile<T, 64, 64, 2, 2, kA, kB, 4, kR>;
template <class T, bool kA, bool kB, bool kR = false>
using NarrowTile = TensorTile<T, 128, 16, 4, 1, kA, kB, 4, kR>;

}  // namespace warploom::v5
