// few_outputs.cu (v5): out[r, q, o] = epilogue(bias[o] + sum over taps t of P[source pixel of (r, q, t)][t, o]), where
//   P[pixel][t, o] = sum over c of source[pixel, c] * w[t, o, c]: one dense product whose columns are all taps of at most 4
//   outputs; a short sum
// Layout: source [N, src_H, src_W, channels], w [KH, KW, channels, outputs] or, backward, [KH, KW, outputs, channels], out [N,
//   out_H, out_W, outputs]. Forward (stride 1): x; a nearest upsample by 2 halves row and column of the source. Backward to the
//   input: dy, and input channels are the outputs; a tap belongs to an output where the stride divides their distance.
// One block owns a box of outputs, rows x columns of an image or several whole images, whose taps reach at most 128 source
//   pixels: the rows of its TensorTile. A warp multiplies 16 or 32 of them; then a thread sums whole outputs, a warp
//   neighbouring ones.
// From the general kernels: they read the source once per tap, for a tile of 16 columns of which 1 to 4 are filled. Expected
//   bottleneck:
//   memory.
// Preconditions: takes_few_outputs (few_outputs.h), source and w at addresses of 16 bytes; one image below 2^31 elements; bf16
//   and tf32 need sm_80, fp16 sm_75.
#include <algorithm>
#include <vector>

#include "few_outputs.h"
#include "implicit_gemm.cuh"

namespace warploom::v5 {

// Of rows, or of columns. Positions are source pixels' numbers times `unit`: forward the upsample's 1 or 2, backward the stride.
struct Axis {
  int outputs = 0, sources = 0, taps = 0, pad = 0, unit = 1;
  int length = 0, boxes = 0, extent = 0;  // outputs of a box, boxes, the most source pixels that one reaches
  FastDivisor by_unit, by_boxes, by_extent;

  // The first and last position inside the image that the outputs begin ... end - 1 read. Where there is nothing but padding the
  // last lies before the first, or both at the border: a pixel read in vain.
  template <bool kBackward>
  __host__ __device__ __forceinline__ int first_position(int begin) const {
    const int at = kBackward ? begin + pad - taps + unit : begin - pad;
    return at > 0 ? at : 0;
  }
  template <bool kBackward>
  __host__ __device__ __forceinline__ int last_position(int end) const {
    const int at = kBackward ? end - 1 + pad : end - 2 - pad + taps;
    return at < 0 ? 0 : at < sources * unit ? at : sources * unit - 1;
  }
  template <bool kBackward>
  __device__ __forceinline__ int first_source(int begin) const {
    return by_unit.quotient(first_position<kBackward>(begin));
  }
  template <bool kBackward>
  __device__ __forceinline__ int last_source(int end) const {
    return by_unit.quotient(last_position<kBackward>(end));
  }
};

struct FewOutputs {
  Axis h, w;
  int N = 0, images = 1;  // of a launch, of a box
  int channels = 0, outputs = 0, columns = 0;
  int slots = 0, gap = 0;                  // add_columns, staged_at
  FastDivisor by_phase, by_phase_row;      // slots of a phase of the stride, phases of a row
  FastDivisor by_slot_image, by_slot_row;  // rows and slots of a row, of one image and phase
  FastDivisor by_row;                      // floats of a box's row
  int source_bytes = 4;                    // of an element (half_map.cuh)
};

constexpr int kBoxPixels = 128;
constexpr int kBoxOutputs = 2048;  // floats: one channel of what 128 source pixels become with stride 4
// Of a column of P, in floats. The four pairs of columns and eight pixels of a fragment fall into different banks; lanes that sum
// outputs read neighbouring pixels of one column.
constexpr int kPitch = kBoxPixels + 4;

// Eight warps of 16 x 32 sums, or 32 x 32: four would need twice the registers a thread, and longer for the sums of the taps.
template <class T, int kColumns>
using ColumnTile = TensorTile<T, kBoxPixels, kColumns, kColumns == 32 ? 8 : 4, kColumns / 32, true, true, 4, false>;
template <class Tile>
constexpr int kColumnBlocks = Tile::kBlocksPerMultiprocessor - Tile::BN / 32;  // 3 or 2; before sm_80 one less

// A: the box's source pixels, B: columns of w. Items of four channels, of which forward's w has each by itself; a step past the last
// channel reads zeros.
template <class Tile, bool kBackward>
struct BoxLoader {
  static constexpr bool kKnowsColumns = false, kIsGradient = kBackward, kGradientIsA = true, kUnpools = false;
  using A = typename Tile::A;
  using B = typename Tile::B;
  using T = typename Tile::T;
  const FewOutputs& g;
  const void* source;
  const float* w;
  float gradient_scale;
  int c = 0;                  // where the step begins
  int pixel[Tile::kItemsA];   // offset of an item's pixel; -4, aligned alike: no output of the box reads it
  int column[Tile::kItemsB];  // offset of an item's column in w; -4: there is none

  __device__ __forceinline__ BoxLoader(const FewOutputs& g_, const void* source_, const float* w_, float scale_, int image0,
                                       int first_h, int last_h, int first_w, int last_w)
      : g(g_), source(source_), w(w_), gradient_scale(scale_) {
    WL_UNROLL
    for (int l = 0; l < Tile::kItemsA; ++l) {
      const int m = item_row<A, Tile::kThreads>(l);
      const int line = g.w.by_extent.quotient(m), col = first_w + g.w.by_extent.remainder(m, line);
      const int n = g.h.by_extent.quotient(line), row = first_h + g.h.by_extent.remainder(line, n), image = image0 + n;
      const bool reads = n < g.images && image < g.N && row <= last_h && col <= last_w;
      pixel[l] = reads ? ((image * g.h.sources + row) * g.w.sources + col) * g.channels + item_column<A>() : -4;
    }
    WL_UNROLL
    for (int l = 0; l < Tile::kItemsB; ++l) {
      const int n = item_row<B, Tile::kThreads>(l), tap = n / g.outputs;
      column[l] = n >= g.columns ? -4 : kBackward ? n * g.channels : tap * g.channels * g.outputs + n - tap * g.outputs;
    }
  }
  __device__ __forceinline__ float scale() const { return gradient_scale; }
  __device__ __forceinline__ float negative_slope() const { return 0.0f; }
  __device__ __forceinline__ int a_bytes() const { return T::kBytes == 2 && !(kBackward && kScaled<T>) ? g.source_bytes : 4; }
  __device__ __forceinline__ constexpr int b_bytes() const { return 4; }
  __device__ __forceinline__ constexpr bool a_vector() const { return true; }
  __device__ __forceinline__ constexpr bool b_vector() const { return kBackward; }
  __device__ __forceinline__ bool a_at(int l, int, const void*& p) const {
    p = element_at<T>(source, pixel[l] + c, a_bytes());
    return pixel[l] >= 0 && c + item_column<A>() < g.channels;
  }
  __device__ __forceinline__ bool b_at(int l, int e, const void*& p) const {
    const int k = c + item_column<B>() + e;
    p = w + column[l] + (kBackward ? k : k * g.outputs);
    return column[l] >= 0 && k < g.channels;
  }
  __device__ __forceinline__ void advance() { c += Tile::BK; }
};

// The taps of one output along an axis: every step-th from `tap` on. Forward they meet the positions at, at + 1, ...; backward,
// where those between pixels are left out, the pixels at, at - 1, ...
template <bool kBackward>
struct Taps {
  int tap = 0, step = 1, at;
  __device__ __forceinline__ Taps(const Axis& axis, int output) : at(output - axis.pad) {
    if constexpr (kBackward) {
      at = axis.by_unit.quotient(output + axis.pad), tap = axis.by_unit.remainder(output + axis.pad, at);
      step = axis.unit;
    }
  }
  __device__ __forceinline__ bool inside(const Axis& axis) const {
    return static_cast<uint32_t>(at) < static_cast<uint32_t>(kBackward ? axis.sources : axis.sources * axis.unit);
  }
  __device__ __forceinline__ int source(const Axis& axis) const { return kBackward ? at : at >> (axis.unit - 1); }
  __device__ __forceinline__ void advance() { tap += step, at += kBackward ? -1 : 1; }
};

// Where float i of a box's outputs waits to be stored: lanes that write an even number of floats apart meet no bank twice.
__device__ __forceinline__ int staged_at(const FewOutputs& g, int i) { return i + g.gap * (i / 32); }

// The outputs of a box from the columns, into staged [images][rows][cols][kOutputs]. A warp takes outputs of one phase of the
// stride, and a row has as many slots as source pixels: its lanes read neighbouring pixels of one column, from row to row too.
// kNine: 3 x 3 taps, stride 1.
template <int kOutputs, bool kNine, int kThreads, bool kBackward>
__device__ __forceinline__ void add_columns(const FewOutputs& g, const Epilogue& epilogue, float unscale, int r0, int q0,
                                            int first_h, int first_w, int rows, int cols, const float* product, float* staged) {
  float bias[kOutputs];
  WL_UNROLL
  for (int o = 0; o < kOutputs; ++o) bias[o] = epilogue.bias ? epilogue.bias[o] : 0.0f;
  for (int slot = static_cast<int>(threadIdx.x); slot < g.slots; slot += kThreads) {
    const int phase = kBackward ? g.by_phase.quotient(slot) : 0, in_phase = kBackward ? g.by_phase.remainder(slot, phase) : slot;
    const int line = g.by_slot_row.quotient(in_phase), n = g.by_slot_image.quotient(line);
    int row = g.by_slot_image.remainder(line, n), col = g.by_slot_row.remainder(in_phase, line);
    if constexpr (kBackward) {
      const int phase_h = g.by_phase_row.quotient(phase);
      row = row * g.h.unit + phase_h, col = col * g.w.unit + g.by_phase_row.remainder(phase, phase_h);
    }
    if (row >= rows || col >= cols) continue;
    float sum[kOutputs] = {};
    Taps<kBackward> down(g.h, r0 + row), across(g.w, q0 + col);
    auto add_tap = [&] {
      const bool inside = down.inside(g.h) && across.inside(g.w);
      const int pixel = (n * g.h.extent + down.source(g.h) - first_h) * g.w.extent + across.source(g.w) - first_w;
      const float* of_tap = product + pixel + (down.tap * (kNine ? 3 : g.w.taps) + across.tap) * kOutputs * kPitch;
      WL_UNROLL
      for (int o = 0; o < kOutputs; ++o) sum[o] += inside ? of_tap[o * kPitch] : 0.0f;
    };
    if constexpr (kNine) {  // without branches, so that the loads overlap
      const Taps<kBackward> leftmost = across;
      WL_UNROLL
      for (int a = 0; a < 3; ++a, down.advance(), across = leftmost) {
        WL_UNROLL
        for (int b = 0; b < 3; ++b, across.advance()) add_tap();
      }
    } else {
      const Taps<kBackward> leftmost = across;
      for (; down.tap < g.h.taps; down.advance())
        for (across = leftmost; across.tap < g.w.taps; across.advance()) add_tap();
    }
    const int to = ((n * g.h.length + row) * g.w.length + col) * kOutputs;
    WL_UNROLL
    for (int o = 0; o < kOutputs; ++o) staged[staged_at(g, to + o)] = epilogue(sum[o] * unscale + bias[o]);
  }
}

template <class Tile, bool kBackward>
__global__ __launch_bounds__(Tile::kThreads, kColumnBlocks<Tile>) void conv2d_few_outputs_kernel(
    FewOutputs g, Epilogue epilogue, const void* __restrict__ source,  // [N, src_H, src_W, channels]
    const float* __restrict__ w,                                       // [taps, channels, outputs] or [taps, outputs, channels]
    const float* __restrict__ scale,                                   // [1], of fp16 gradients
    float* __restrict__ out) {                                         // [N, out_H, out_W, outputs]
  if constexpr (!kCompiledHere<typename Tile::T>) return;
  constexpr bool kScales = kBackward && kScaled<typename Tile::T>;
  const int block = static_cast<int>(blockIdx.x), box = g.w.by_boxes.quotient(block), group = g.h.by_boxes.quotient(box);
  const int q0 = g.w.by_boxes.remainder(block, box) * g.w.length, r0 = g.h.by_boxes.remainder(box, group) * g.h.length;
  const int image0 = group * g.images;
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
  const bool nine = g.h.taps == 3 && g.w.taps == 3 && (!kBackward || g.h.unit * g.w.unit == 1);
  auto add = [&](auto outputs) {
    constexpr int kOutputs = decltype(outputs)::value;
    const float unscale = kScales ? reciprocal_of_power(gradient_scale) : 1.0f;
    auto add_all = [&](auto is_nine) {
      add_columns<kOutputs, decltype(is_nine)::value, Tile::kThreads, kBackward>(g, epilogue, unscale, r0, q0, first_h, first_w,
                                                                                 rows, cols, product, staged);
    };
    nine ? add_all(std::true_type()) : add_all(std::false_type());
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
    const int line = whole ? 0 : g.by_row.quotient(e), at = whole ? e : g.by_row.remainder(e, line);
    if (whole || at < cols * g.outputs) to[line * row_floats + at] = staged[staged_at(g, e)];
  }
}

// ---- Host ----

// A way to cut an axis into boxes of even length, and how many source pixels they read all together. Where boxes are many none is
// looked at, and each counts as one that no border of the image makes smaller.
struct Cut {
  Axis axis;
  int64_t reads = 0;
};
constexpr int kManyBoxes = 64;
template <bool kBackward>
static std::vector<Cut> cuts_of(const Axis& whole) {
  std::vector<Cut> found;
  for (int length = std::min(whole.outputs, kBoxOutputs); length > 0; --length) {
    Cut cut{whole};
    Axis& axis = cut.axis;
    axis.length = length, axis.boxes = (whole.outputs + length - 1) / length;
    if ((whole.outputs + axis.boxes - 1) / axis.boxes != length) continue;  // as many boxes, but less even
    axis.extent = 1;
    if (axis.boxes > kManyBoxes) {
      const int reach = length + whole.taps - 2;
      axis.extent = std::min((reach + (kBackward ? 0 : whole.unit - 1)) / whole.unit + 1, whole.sources);
      cut.reads = int64_t(axis.boxes) * axis.extent;
    } else {
      for (int begin = 0; begin < whole.outputs; begin += length) {
        const int end = std::min(begin + length, whole.outputs);
        const int first = axis.first_position<kBackward>(begin), last = axis.last_position<kBackward>(end);
        const int extent = last / axis.unit - first / axis.unit + 1;
        axis.extent = std::max(axis.extent, extent), cut.reads += std::max(extent, 0);
      }
    }
    if (axis.extent <= kBoxPixels) found.push_back(cut);
  }
  return found;
}

// Chooses the boxes: the fewest, of these what reads least, of these the widest, whose rows lie in one piece. N: images a launch.
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
  for (Axis* axis : {&g.h, &g.w}) {
    axis->by_unit = FastDivisor(axis->unit), axis->by_boxes = FastDivisor(axis->boxes);
    axis->by_extent = FastDivisor(axis->extent);
  }
  const int phases_h = kBackward ? std::min(g.h.unit, g.h.length) : 1, phases_w = kBackward ? std::min(g.w.unit, g.w.length) : 1;
  const int rows = (g.h.length + phases_h - 1) / phases_h, cols = (g.w.length + phases_w - 1) / phases_w;
  const int slots = !kBackward && g.w.unit > 1 ? cols : std::max(cols, g.w.extent);  // after an upsample two lanes share a pixel
  g.slots = phases_h * phases_w * g.images * rows * slots, g.gap = g.outputs * (kBackward ? g.w.unit : 1) % 2 == 0;
  g.by_phase = FastDivisor(g.images * rows * slots), g.by_phase_row = FastDivisor(phases_w);
  g.by_slot_image = FastDivisor(rows), g.by_slot_row = FastDivisor(slots), g.by_row = FastDivisor(g.w.length * g.outputs);
}

template <bool kBackward>
static void run_columns(const Context& context, Precision precision, FewOutputs g, int N, const void* source, DType source_type,
                        const float* w, const Epilogue& epilogue, const float* scale, float* out) {
  g.source_bytes = static_cast<int>(dtype_bytes(source_type));
  g.columns = g.h.taps * g.w.taps * g.outputs;
  const int64_t source_image = int64_t(g.h.sources) * g.w.sources * g.channels,
                out_image = int64_t(g.h.outputs) * g.w.outputs * g.outputs;
  const int images = images_per_launch(N, source_image, out_image);
  choose_boxes<kBackward>(g, images);
  with_operand_type<Bf16, F16, Tf32>(precision, [&](auto type) {
    using T = decltype(type);
    auto launch_with = [&](auto tile) {
      using Tile = decltype(tile);
      const int staged = g.images * g.h.length * g.w.length * g.outputs, after = 4 * (g.columns * kPitch + staged + staged / 32);
      for (int first = 0; first < N; first += images) {
        g.N = std::min(images, N - first);
        const int64_t blocks = int64_t((g.N + g.images - 1) / g.images) * g.h.boxes * g.w.boxes;
        launch(context, "v5::conv2d_few_outputs_kernel", conv2d_few_outputs_kernel<Tile, kBackward>, dim3(blocks_for(blocks, 1)),
               dim3(Tile::kThreads), static_cast<size_t>(std::max(Tile::kSharedBytes, after)), g, epilogue,
               into_map(source, first * source_image, g.source_bytes), w, scale, out + first * out_image);
      }
    };
    g.columns <= 32 ? launch_with(ColumnTile<T, 32>()) : launch_with(ColumnTile<T, 64>());
  });
}

static Axis axis_of(int outputs, int sources, int taps, int pad, int unit) {
  Axis axis;
  axis.outputs = outputs, axis.sources = sources, axis.taps = taps, axis.pad = pad, axis.unit = unit;
  return axis;
}

static void require_aligned(const void* source, const void* w) {
  if (!aligned16(source, w))
    throw DeviceError("v5's kernel for few outputs reads 16 bytes at a time; copy the array that begins between");
}

void run_few_outputs(const Conv2dForward& a, const Context& context) {
  require_aligned(a.x.data, nullptr);
  const Conv2dShape& s = a.s;
  const int up = a.fusion.upsample;
  FewOutputs g;
  g.h = axis_of(s.OH, s.H / up, s.KH, s.pad_top, up), g.w = axis_of(s.OW, s.W / up, s.KW, s.pad_left, up);
  g.channels = s.C_in, g.outputs = s.C_out;
  run_columns<false>(context, a.fusion.precision, g, s.N, a.x.data, a.fusion.x_type, a.w.ptr(),
                     Epilogue{a.bias.ptr(), a.fusion.activation, a.fusion.negative_slope}, nullptr, a.y.ptr());
}

void run_few_outputs(const Conv2dBackwardInput& a, const Context& context, const float* scale) {
  require_aligned(a.dy.data, a.w.data);
  const Conv2dShape& s = a.s;
  FewOutputs g;
  g.h = axis_of(s.H, s.OH, s.KH, s.pad_top, s.stride_h), g.w = axis_of(s.W, s.OW, s.KW, s.pad_left, s.stride_w);
  g.channels = s.C_out, g.outputs = s.C_in;
  run_columns<true>(context, a.fusion.precision, g, s.N, a.dy.data, gradient_type(a.fusion.y_type), a.w.ptr(), Epilogue(), scale,
                    a.dx.ptr());
}

}  // namespace warploom::v5
