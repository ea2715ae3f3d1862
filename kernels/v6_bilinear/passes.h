// passes.h - inside v6: the passes that a convolution by a bilinear scheme consists of, one file each. Host code only.
//
// A scheme cuts the output into tiles. V, M, dM, dV stand as [position][tile][channel], U and dU as [position][row][column]; channels
// are padded to multiples of four. Rows of tiles are numbered through all images; a chunk is a run of them.
#pragma once

#include "../common/fast_divisor.cuh"
#include "../common/schemes.h"
#include "../ops.h"

namespace warploom::v6 {

// few_inputs: no scheme but a direct kernel of this version, for first layers.
enum class Scheme { none, winograd4, winograd2, upsample9, upsample25, few_inputs };

// f(scheme as a type).
template <class F>
auto with_scheme(Scheme scheme, F&& f) {
  switch (scheme) {
    case Scheme::winograd2:
      return f(WinogradF2());
    case Scheme::upsample9:
      return f(Upsample9());
    case Scheme::upsample25:
      return f(Upsample25());
    default:
      return f(WinogradF4());
  }
}

inline int padded(int channels) { return (channels + 3) / 4 * 4; }

struct Tiles {         // of one chunk
  int TH = 0, TW = 0;  // in an image
  int first_row = 0, rows = 0;
  FastDivisor by_group, by_TW, by_TH;  // by_group: set by the pass, a tile's channels over those of a thread
};

// A map that a pass reads. codes: the gradient of a 2x2 max pool's output, H x W is the map before it; a code is the maximum's
// position in its window, + 4 where the slope of the activation applies.
struct Map {
  const float* data = nullptr;           // [images, H, W, C], pooled [images, H / 2, W / 2, C]
  const unsigned char* codes = nullptr;  // as data
  int H = 0, W = 0, C = 0;
  float slope = 0.0f;
};

// V = B x B^T of the patches that begin pad rows and columns before their tiles.
void transform_input(const Context& context, Scheme scheme, Tiles tiles, const Map& x, int pad_top, int pad_left, float* V,
                     int64_t position);
// dM = A^T dy A: the adjoint of the last step of the forward pass.
void transform_gradient(const Context& context, Scheme scheme, Tiles tiles, const Map& dy, float* dM, int64_t position);

enum class FilterForm { forward, transposed, mirrored };  // mirrored: transposed, taps in reverse order
// U = G w G^T, [C, N] or, transposed, [N, C].
void transform_filter(const Context& context, Scheme scheme, FilterForm form, int C, int N, const float* w, float* U);
// dw = G^T dU G, dU summed over its splits in order.
void collect_filter(const Context& context, Scheme scheme, int C, int N, int splits, const float* dU, float* dw);

struct Result {
  int H = 0, W = 0, C = 0;  // before the pool
  int pool = 1;
  const float* bias = nullptr;
  Activation activation = Activation::none;
  float slope = 0.0f;
  float* y = nullptr;
  unsigned char* codes = nullptr;  // of a pool, or null
};
// y = pool(activation(A M A^T + bias)).
void transform_output(const Context& context, Scheme scheme, Tiles tiles, const float* M, int64_t position, const Result& to);
// dx = B^T dV B, patches that overlap added up; for schemes with an upsample. dV points at the chunk's first tile; the rows of tiles
// before and after the chunk must stand around it where they are of the same image.
void collect_input(const Context& context, Scheme scheme, Tiles tiles, const float* dV, int64_t position, int H, int W, int C,
                   float* dx);

// to[p] = from[p] * U[p] for every position: [tiles, K] x [K, N].
void multiply(const Context& context, int positions, int tiles, int K, int N, const float* from, int64_t from_position,
              const float* U, float* to, int64_t to_position);
// dU[split][p] (+)= V[p]^T dM[p] over a part of the tiles: [C, tiles] x [tiles, N].
void multiply_transposed(const Context& context, int positions, int tiles, int C, int N, int splits, bool accumulate,
                         const float* V, int64_t V_position, const float* dM, int64_t dM_position, float* dU);
// How many parts of the tiles fill a GPU.
int weight_splits(int positions, int64_t tiles, int C, int N);

}  // namespace warploom::v6
