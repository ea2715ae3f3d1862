// few_outputs.cu (v5): out[r, q, o] = epilogue(bias[o] + sum over taps t of P[source pixel of (r, q, t)][t, o]), P[pixel][t, o] = sum over
//   c of source[pixel, c] * w[t, o, c]: one dense product whose columns are all taps of at most 4 outputs, then a short sum
// Layout: source [N, src_H, src_W, channels], w [KH, KW, outputs, channels], out [N, out_H, out_W, outputs]. Forward (stride 1): source x,
//   w turned around in the workspace; a nearest upsample by 2 halves row and column of the source. Backward to the input: source dy,
//   outputs the input channels, w as it is stored; a tap belongs to an output where the stride divides their distance.
// One block owns a box of outputs, rows x columns of one image or several whole images, whose taps reach at most 128 source pixels: the
//   rows of its TensorTile. A warp multiplies 32 of them; then a thread sums whole outputs, lanes beside each other along a row.
// From the general kernels: they read the source once per tap, for a tile of 16 columns of which 1 to 4 are filled. Bottleneck: memory.
// Preconditions: few_outputs (few_outputs.h); one image below 2^31 elements; bf16 and tf32 need sm_80, fp16 sm_75.
#include <algorithm>
#include <vector>

#include "few_outputs.h"
#include "implicit_gemm.cuh"

namespace warploom::v5 {

// Of rows, or of columns.
struct Axis {
  int outputs = 0, sources = 0, taps = 0, pad = 0;
  int up = 0, stride = 1;                 // forward: 1 after an upsample by 2; backward: the convolution's
  int length = 0, boxes = 0, extent = 0;  // outputs of a box, boxes, the most source pixels that one reaches

  // Source pixels first ... last that the outputs from `begin` to `end` read; past one another where there are none.
  template <bool kBackward>
  __host__ __device__ __forceinline__ int first_source(int begin) const {
    const int at = kBackward ? begin + pad - taps + stride : begin - pad;
    return at <= 0 ? 0 : kBackward ? at / stride : at >> up;
  }
  template <bool kBackward>
  __host__ __device__ __forceinline__ int last_source(int end) const {
    const int at = kBackward ? (end - 1 + pad) / stride : (end - 2 - pad + taps) >> up;
    return at < sources ? at : sources - 1;
  }
};

struct FewOutputs {
  Axis h, w;
  int N = 0, images = 1;  // of a launch, of a box
  int channels = 0, outputs = 0, columns = 0;
  FastDivisor by_extent_h, by_extent_w;         // of a box's source pixels
  FastDivisor by_length_h, by_slots, by_phase;  // of its outputs
  FastDivisor by_run;                           // of the floats of its rows
};

constexpr int kBoxPixels = 128;
constexpr int kBoxOutputs = 2048;  // floats: with stride 4 as many as source pixels can have
// Of a column of P, in floats. The four pairs of columns and eight pixels of a fragment fall into different banks; lanes that sum
// outputs read neighbouring pixels of one column.
constexpr int kPitch = kBoxPixels + 4;

// Eight warps of 16 x 32 sums, or 32 x 32: four would need twice the registers a thread, and longer for the sums of the taps.
template <class T, int kColumns>
using ColumnTile = TensorTile<T, kBoxPixels, kColumns, kColumns == 32 ? 8 : 4, kColumns / 32, true, true, 4, false>;
template <class Tile>
constexpr int kColumnBlocks = Tile::kBlocksPerMultiprocessor - Tile::BN / 32;  // 3 or 2; before sm_80 one less

// A: the box's source pixels, B: rows of w. Items of four channels; a step past the last channel reads zeros.
template <class Tile, bool kBackward>
struct BoxLoader {
  static constexpr bool kKnowsColumns = false, kIsGradient = kBackward, kGradientIsA = true, kUnpools = false;
  using A = typename Tile::A;
  using B = typename Tile::B;
  const FewOutputs& g;
  const float* source;
  const float* w;
  float gradient_scale;
  int c = 0;            // where the step begins
  uint32_t inside = 0;  // bit l: item l's pixel is read by an output of the box
  int pixel[Tile::kItemsA];

  __device__ __forceinline__ BoxLoader(const FewOutputs& g_, const float* source_, const float* w_, float scale_, int image0,
                                       int first_h, int last_h, int first_w, int last_w)
      : g(g_), source(source_), w(w_ + item_column<B>()), gradient_scale(scale_) {
    WL_UNROLL
    for (int l = 0; l < Tile::kItemsA; ++l) {
      const int m = item_row<A, Tile::kThreads>(l);
      const int line = g.by_extent_w.quotient(m), col = first_w + g.by_extent_w.remainder(m, line);
      const int n = g.by_extent_h.quotient(line), row = first_h + g.by_extent_h.remainder(line, n), image = image0 + n;
      pixel[l] = ((image * g.h.sources + row) * g.w.sources + col) * g.channels + item_column<A>();
      inside |= static_cast<uint32_t>(n < g.images && image < g.N && row <= last_h && col <= last_w) << l;
    }
  }
  __device__ __forceinline__ float scale() const { return gradient_scale; }
  __device__ __forceinline__ float negative_slope() const { return 0.0f; }
  __device__ __forceinline__ constexpr bool a_vector() const { return true; }
  __device__ __forceinline__ constexpr bool b_vector() const { return true; }
  __device__ __forceinline__ bool a_at(int l, int, const float*& p) const {
    p = source + pixel[l] + c;
    return (inside >> l & 1) && c + item_column<A>() < g.channels;
  }
  __device__ __forceinline__ bool b_at(int l, int, const float*& p) const {
    const int column = item_row<B, Tile::kThreads>(l);
    p = w + column * g.channels + c;
    return column < g.columns && c + item_column<B>() < g.channels;
  }
  __device__ __forceinline__ void advance() { c += Tile::BK; }
};

// The taps of one output along an axis: tap, tap + step, ... meet at, at + move, ...; on the upsampled map where there is one.
template <bool kBackward>
struct Taps {
  int tap, step, at, move;
  uint32_t limit;
  __device__ __forceinline__ Taps(const Axis& axis, int output) {
    if constexpr (kBackward) {
      at = (output + axis.pad) / axis.stride, tap = output + axis.pad - at * axis.stride;
      step = axis.stride, move = -1, limit = static_cast<uint32_t>(axis.sources);
    } else {
      at = output - axis.pad, tap = 0, step = move = 1, limit = static_cast<uint32_t>(axis.sources << axis.up);
    }
  }
};

// Outputs of a box from the columns, into staged [images][rows][columns of outputs][kOutputs]: lanes beside each other read pixels beside
// each other, which are channels apart in `out`.
template <int kOutputs, int kThreads, bool kBackward>
__device__ __forceinline__ void add_columns(const FewOutputs& g, const Epilogue& epilogue, float unscale, int r0, int q0,
                                            int first_h, int first_w, int images, int rows, int cols, const float* product,
                                            float* staged) {
  float bias[kOutputs];
  WL_UNROLL
  for (int o = 0; o < kOutputs; ++o) bias[o] = epilogue.bias ? epilogue.bias[o] : 0.0f;
  const int slots = images * g.h.length * static_cast<int>(g.by_slots.divisor);
  for (int slot = static_cast<int>(threadIdx.x); slot < slots; slot += kThreads) {
    const int line = g.by_slots.quotient(slot), n = g.by_length_h.quotient(line), row = g.by_length_h.remainder(line, n);
    int col = g.by_slots.remainder(slot, line);
    if constexpr (kBackward) {  // phase by phase, so that neighbours take the same taps
      const int phase = g.by_phase.quotient(col);
      col = g.by_phase.remainder(col, phase) * g.w.stride + phase;
    }
    if (row >= rows || col >= cols) continue;
    float sum[kOutputs] = {};
    const Taps<kBackward> across(g.w, q0 + col);
    Taps<kBackward> down(g.h, r0 + row);
    for (; down.tap < g.h.taps; down.tap += down.step, down.at += down.move) {
      if (static_cast<uint32_t>(down.at) >= down.limit) continue;
      const int source_row = (kBackward ? down.at : down.at >> g.h.up) - first_h;
      const float* of_row = product + (n * g.h.extent + source_row) * g.w.extent - first_w;
      for (int b = across.tap, at = across.at; b < g.w.taps; b += across.step, at += across.move) {
        if (static_cast<uint32_t>(at) >= across.limit) continue;
        const float* of_tap = of_row + (kBackward ? at : at >> g.w.up) + (down.tap * g.w.taps + b) * kOutputs * kPitch;
        WL_UNROLL
        for (int o = 0; o < kOutputs; ++o) sum[o] += of_tap[o * kPitch];
      }
    }
    WL_UNROLL
    for (int o = 0; o < kOutputs; ++o) sum[o] = epilogue(sum[o] * unscale + bias[o]);
    float* to = staged + ((n * g.h.length + row) * g.w.length + col) * kOutputs;
    if constexpr (kOutputs == 4) {
      store4(to, make_float4(sum[0], sum[1], sum[2], sum[3]));
    } else if constexpr (kOutputs == 2) {
      *reinterpret_cast<float2*>(to) = make_float2(sum[0], sum[1]);
    } else {
      WL_UNROLL
      for (int o = 0; o < kOutputs; ++o) to[o] = sum[o];
    }
  }
}

template <class Tile, bool kBackward>
__global__ __launch_bounds__(Tile::kThreads, kColumnBlocks<Tile>) void few_outputs_kernel(
    FewOutputs g, Epilogue epilogue, const float* __restrict__ source,  // [N, src_H, src_W, channels]
    const float* __restrict__ w,                                        // [columns, channels]
    const float* __restrict__ scale,                                    // [1], of fp16 gradients
    float* __restrict__ out) {                                          // [N, out_H, out_W, outputs]
  constexpr bool kScales = kBackward && kScaled<typename Tile::T>;
  const int block = static_cast<int>(blockIdx.x), box = block / g.w.boxes;
  const int q0 = block % g.w.boxes * g.w.length, r0 = box % g.h.boxes * g.h.length, image0 = box / g.h.boxes * g.images;
  const int images = min(g.images, g.N - image0), rows = min(g.h.length, g.h.outputs - r0),
            cols = min(g.w.length, g.w.outputs - q0);
  const int first_h = g.h.first_source<kBackward>(r0), first_w = g.w.first_source<kBackward>(q0);
  float gradient_scale = 1.0f;
  if constexpr (kScales) gradient_scale = scale ? *scale : 1.0f;

  float sum[Tile::MT][Tile::NT][4];
  {
    BoxLoader<Tile, kBackward> from(g, source, w, gradient_scale, image0, first_h, g.h.last_source<kBackward>(r0 + rows), first_w,
                                    g.w.last_source<kBackward>(q0 + cols));
    multiply_stream<Tile>(from, (g.channels + Tile::BK - 1) / Tile::BK, sum);
  }

  WL_DYNAMIC_SHARED(float, product);  // [columns][kPitch], where the stages were
  __syncthreads();
  for_each_row<Tile>([&](int i, int half, int m) {
    WL_UNROLL
    for (int j = 0; j < Tile::NT; ++j) {
      WL_UNROLL
      for (int e = 0; e < 2; ++e) {
        const int column = first_column<Tile>() + 8 * j + e;
        if (column < g.columns) product[column * kPitch + m] = sum[i][j][2 * half + e];
      }
    }
  });
  __syncthreads();

  float* staged = product + g.columns * kPitch;
  auto add = [&](auto outputs) {
    add_columns<decltype(outputs)::value, Tile::kThreads, kBackward>(g, epilogue,
                                                                     kScales ? reciprocal_of_power(gradient_scale) : 1.0f, r0, q0,
                                                                     first_h, first_w, images, rows, cols, product, staged);
  };
  switch (g.outputs) {
    case 1:
      add(std::integral_constant<int, 1>());
      break;
    case 2:
      add(std::integral_constant<int, 2>());
      break;
    case 3:
      add(std::integral_constant<int, 3>());
      break;
    default:
      add(std::integral_constant<int, 4>());
  }
  __syncthreads();
  // Whole rows are one piece of `out`, whole images too.
  const int row_floats = g.w.outputs * g.outputs, box_floats = g.w.length * g.outputs;
  float* to = out + (static_cast<int64_t>(image0) * g.h.outputs + r0) * row_floats + q0 * g.outputs;
  const bool whole = g.w.boxes == 1;
  const int floats = images * rows * box_floats;
  for (int e = static_cast<int>(threadIdx.x); e < floats; e += Tile::kThreads) {
    const int line = whole ? 0 : g.by_run.quotient(e), at = whole ? e : g.by_run.remainder(e, line);
    if (whole || at < cols * g.outputs) to[line * row_floats + at] = staged[e];
  }
}

// w hwio [taps, channels, outputs] -> turned [taps, outputs, channels]. A block owns 256 channels of one tap, a thread one.
constexpr int kTurnThreads = 256;
__global__ __launch_bounds__(kTurnThreads) void turn_weights_kernel(int channels, int outputs,
                                                                    const float* __restrict__ w,   // [taps, channels, outputs]
                                                                    float* __restrict__ turned) {  // [taps, outputs, channels]
  WL_SHARED(float, tile, [kTurnThreads * 4 + kTurnThreads * 4 / 32]);
  const int gap = outputs % 2 == 0;  // after 32 floats: where 2 or 4 are taken apart, no bank is met twice
  const int t = static_cast<int>(threadIdx.x), c0 = static_cast<int>(blockIdx.x) * kTurnThreads;
  const int64_t tap = static_cast<int64_t>(blockIdx.y) * channels * outputs;
  const int count = min(kTurnThreads, channels - c0);
  for (int i = t; i < count * outputs; i += kTurnThreads) tile[i + gap * (i / 32)] = w[tap + c0 * outputs + i];
  __syncthreads();
  if (t >= count) return;
  for (int o = 0; o < outputs; ++o) {
    const int i = t * outputs + o;
    turned[tap + o * channels + c0 + t] = tile[i + gap * (i / 32)];
  }
}

// ---- Host ----

// Ways to cut an axis into boxes of even length whose source pixels fit a tile, and how many pixels all boxes together read. Of many boxes
// none is looked at: a bound stands for those that the image's border makes smaller.
struct Cut {
  Axis axis;
  int64_t reads = 0;
};
template <bool kBackward>
static std::vector<Cut> cuts_of(const Axis& whole) {
  std::vector<Cut> found;
  for (int length = std::min(whole.outputs, kBoxOutputs); length > 0; --length) {
    Cut cut{whole};
    Axis& axis = cut.axis;
    axis.length = length, axis.boxes = (whole.outputs + length - 1) / length;
    if ((whole.outputs + axis.boxes - 1) / axis.boxes != length) continue;  // as many boxes, less even
    axis.extent = 1;
    if (axis.boxes > 64) {
      const int reach = length + whole.taps - 2;
      axis.extent = std::min(kBackward ? reach / whole.stride + 1 : ((reach + whole.up) >> whole.up) + 1, whole.sources);
      cut.reads = int64_t(axis.boxes) * axis.extent;
    } else {
      for (int begin = 0; begin < whole.outputs; begin += length) {
        const int end = std::min(begin + length, whole.outputs);
        const int extent = axis.last_source<kBackward>(end) - axis.first_source<kBackward>(begin) + 1;
        axis.extent = std::max(axis.extent, extent), cut.reads += std::max(extent, 0);
      }
    }
    if (axis.extent <= kBoxPixels) found.push_back(cut);
  }
  return found;
}

// Chooses the boxes: the fewest, of these those that read least, of these the widest, whose rows lie in one piece. N: images of a launch.
template <bool kBackward>
static void choose_boxes(FewOutputs& g, int N) {
  int64_t fewest = 0, least = 0;
  const std::vector<Cut> heights = cuts_of<kBackward>(g.h), widths = cuts_of<kBackward>(g.w);
  for (const Cut& h : heights) {
    for (const Cut& w : widths) {
      if (h.axis.extent * w.axis.extent > kBoxPixels || h.axis.length * w.axis.length * g.outputs > kBoxOutputs) continue;
      const int64_t boxes = int64_t(h.axis.boxes) * w.axis.boxes, reads = h.reads * w.reads;
      if (fewest && (boxes > fewest || (boxes == fewest && (reads > least || (reads == least && w.axis.length <= g.w.length)))))
        continue;
      fewest = boxes, least = reads;
      g.h = h.axis, g.w = w.axis;
    }
  }
  // Several small images, while that leaves blocks enough for a large GPU.
  const int fit = std::min(kBoxPixels / (g.h.extent * g.w.extent), kBoxOutputs / (g.h.length * g.w.length * g.outputs));
  g.images = fewest == 1 ? static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(fit, N / kEnoughBlocks))) : 1;
  g.by_extent_h = FastDivisor(g.h.extent), g.by_extent_w = FastDivisor(g.w.extent);
  // A stride's phases each take as many slots of a row as the largest.
  const int phases = std::min(g.w.stride, g.w.length), of_phase = (g.w.length + phases - 1) / phases;
  g.by_length_h = FastDivisor(g.h.length), g.by_slots = FastDivisor(of_phase * phases), g.by_phase = FastDivisor(of_phase);
  g.by_run = FastDivisor(g.w.length * g.outputs);
}

template <bool kBackward>
static void run_columns(const Context& context, Precision precision, FewOutputs g, int N, const float* source, const float* w,
                        const Epilogue& epilogue, const float* scale, float* out) {
  g.columns = g.h.taps * g.w.taps * g.outputs;
  const int64_t source_image = int64_t(g.h.sources) * g.w.sources * g.channels,
                out_image = int64_t(g.h.outputs) * g.w.outputs * g.outputs;
  const int images = images_per_launch(N, source_image, out_image);
  choose_boxes<kBackward>(g, images);
  with_operand_type<Bf16, F16, Tf32>(precision, [&](auto type) {
    using T = decltype(type);
    auto launch_with = [&](auto tile) {
      using Tile = decltype(tile);
      const int after = 4 * (g.columns * kPitch + g.images * g.h.length * g.w.length * g.outputs);
      for (int first = 0; first < N; first += images) {
        g.N = std::min(images, N - first);
        const int64_t blocks = int64_t((g.N + g.images - 1) / g.images) * g.h.boxes * g.w.boxes;
        launch(context, "v5::few_outputs_kernel", few_outputs_kernel<Tile, kBackward>, dim3(blocks_for(blocks, 1)),
               dim3(Tile::kThreads), static_cast<size_t>(std::max(Tile::kSharedBytes, after)), g, epilogue,
               source + first * source_image, w, scale, out + first * out_image);
      }
    };
    g.columns <= 32 ? launch_with(ColumnTile<T, 32>()) : launch_with(ColumnTile<T, 64>());
  });
}

static Axis axis_of(int outputs, int sources, int taps, int pad) {
  Axis axis;
  axis.outputs = outputs, axis.sources = sources, axis.taps = taps, axis.pad = pad;
  return axis;
}

void run_few_outputs(const Conv2dForward& a, const Context& context) {
  const Conv2dShape& s = a.s;
  FewOutputs g;
  const int up = a.fusion.upsample - 1;
  g.h = axis_of(s.OH, s.H >> up, s.KH, s.pad_top), g.w = axis_of(s.OW, s.W >> up, s.KW, s.pad_left);
  g.h.up = g.w.up = up;
  g.channels = s.C_in, g.outputs = s.C_out;
  float* turned = context.workspace.ptr();
  launch(context, "v5::turn_weights_kernel", turn_weights_kernel,
         dim3(blocks_for(s.C_in, kTurnThreads), static_cast<unsigned>(s.KH * s.KW)), dim3(kTurnThreads), 0, s.C_in, s.C_out,
         a.w.ptr(), turned);
  run_columns<false>(context, a.fusion.precision, g, s.N, a.x.ptr(), turned,
                     Epilogue{a.bias.ptr(), a.fusion.activation, a.fusion.negative_slope}, nullptr, a.y.ptr());
}

void run_few_outputs(const Conv2dBackwardInput& a, const Context& context, const float* scale) {
  const Conv2dShape& s = a.s;
  FewOutputs g;
  g.h = axis_of(s.H, s.OH, s.KH, s.pad_top), g.w = axis_of(s.W, s.OW, s.KW, s.pad_left);
  g.h.stride = s.stride_h, g.w.stride = s.stride_w;
  g.channels = s.C_out, g.outputs = s.C_in;
  run_columns<true>(context, a.fusion.precision, g, s.N, a.dy.ptr(), a.w.ptr(), Epilogue(), scale, a.dx.ptr());
}

}  // namespace warploom::v5
