// choice.h - inside v7: which convolutions it takes, how a block's box of pixels is chosen, what a launch needs. Host code only.
#pragma once

#include <string>

#include "../common/preconditions.h"
#include "../common/vector.cuh"
#include "../device.h"
#include "halo_gemm.cuh"

namespace warploom::v7 {

// Throws where the GPU has no wgmma: sm_90a alone has it.
inline void require_hopper(const Context& context) {
  if (!context.device) return;
  const int major = context.device->compute_major, minor = context.device->compute_minor;
  if (major != 9 || minor != 0)
    throw DeviceError("v7 needs a GPU of compute capability 9.0 (H100, H200) for wgmma and bulk tensor copies, this one has " +
                      std::to_string(major) + "." + std::to_string(minor) + "; use v5");
#if defined(WARPLOOM_CUDA_ARCHITECTURES)
  if (std::string(WARPLOOM_CUDA_ARCHITECTURES).find("90a") == std::string::npos)
    throw DeviceError("v7 was built without its instructions, for " WARPLOOM_CUDA_ARCHITECTURES
                      "; build with CMAKE_CUDA_ARCHITECTURES=90a-real, or use v5");
#endif
}

inline int log2_up(int n) {
  int log = 0;
  while (1 << log < n) ++log;
  return log;
}

// How a map is brought: that of 16 bits as a halo, where no pool has to be undone on the way.
inline void set_storage(Halo& h, DType type, bool unpool) {
  h.bytes = static_cast<int>(dtype_bytes(type)), h.direct = h.bytes == 2 && !unpool;
}

// The halo of a box of images x 2^log_h x 2^log_w pixels whose taps reach reach_h and reach_w pixels further. `windows`: ldmatrix takes the
// pixels by windows of 2x2. `pooled`: the unit is.
inline Halo halo_of(int images, int log_h, int log_w, int reach_h, int reach_w, bool windows, bool pooled) {
  Halo h;
  h.images = images, h.h = (1 << log_h) + reach_h, h.w = (1 << log_w) + reach_w;
  h.unit_h = pooled ? h.h / 2 + 1 : h.h, h.unit_w = pooled ? h.w / 2 + 1 : h.w;
  // Eight pixels that ldmatrix reads together must have eight different numbers modulo 8.
  const int aligned = windows ? (log_w > 1 ? 4 : 2) : log_w < 3 ? 1 << log_w : 0;
  h.pitch = h.w;
  while (aligned && h.pitch % 8 != aligned) ++h.pitch;
  h.by_pitch = FastDivisor(h.pitch), h.by_h = FastDivisor(h.h);
  return h;
}

// Chooses the box: the fewest tiles, then the smallest halo, of those that fit shared memory beside `columns` of weights. phase_h x
// phase_w: taps of the largest phase. Whether one fits.
inline bool choose_box(HaloGemm& g, bool pool, bool unpool, int phase_h, int phase_w, int columns) {
  int64_t best_tiles = 0, best_halo = 0;
  bool found = false;
  const HaloGemm empty = g;
  for (int log_w = pool; log_w <= 7; ++log_w) {
    for (int log_h = pool; log_w + log_h <= 7; ++log_h) {
      HaloGemm h = empty;
      h.log_w = log_w, h.log_h = log_h, h.box_n = kBM >> (log_w + log_h);
      h.halo = halo_of(h.box_n, log_h, log_w, phase_h - 1, phase_w - 1, pool, unpool);
      h.halo.negative_slope = empty.halo.negative_slope, h.halo.bytes = empty.halo.bytes, h.halo.direct = empty.halo.direct;
      h.halo_stages = h.halo.direct ? kDirectStages : kHaloStages;
      if (shared_bytes(h, columns, unpool) > kSharedLimit) h.halo_stages = kHaloStages;
      if (h.halo.h > 256 || h.halo.pitch > 256 || shared_bytes(h, columns, unpool) > kSharedLimit) continue;
      h.tiles_h = (h.rows + (1 << log_h) - 1) >> log_h, h.tiles_w = (h.cols + (1 << log_w) - 1) >> log_w;
      const int64_t tiles = int64_t((h.N + h.box_n - 1) / h.box_n) * h.tiles_h * h.tiles_w;
      const int64_t halo = halo_bytes(h.halo) + int64_t(unit_bytes(h.halo, unpool));
      if (found && (tiles > best_tiles || (tiles == best_tiles && halo >= best_halo))) continue;
      g = h, best_tiles = tiles, best_halo = halo, found = true;
    }
  }
  return found;
}
inline int64_t tiles_of(const HaloGemm& g) { return int64_t((g.N + g.box_n - 1) / g.box_n) * g.tiles_h * g.tiles_w; }

// A convolution as this version computes it. Does not depend on addresses, of which planning knows none: what is not aligned for the copy
// engine goes to v6 when it is run.
struct Problem {
  HaloGemm g;
  int phases = 1, columns = 64;
  int src_H = 0, src_W = 0;
  WeightForm form = WeightForm::forward;
  std::string why;  // not taken, because
};

// Where a large GPU would stand idle, tiles of half as many channels.
constexpr int64_t kEnoughBlocks = 100;

inline Problem finish(Problem p, Precision precision, bool pool, bool unpool, int phase_h, int phase_w) {
  HaloGemm& g = p.g;
  const int chunk = precision == Precision::tf32 ? 32 : 64;
  g.chunks = (g.k_channels + chunk - 1) / chunk;
  bool found = false;
  for (int columns : {128, 64}) {
    if (!choose_box(g, pool, unpool, phase_h, phase_w, columns)) continue;
    found = true, p.columns = columns;
    g.n_tiles = (g.n_channels + columns - 1) / columns;
    if (columns == 128 && g.n_channels > 64 && tiles_of(g) * g.n_tiles * p.phases >= kEnoughBlocks) break;
  }
  if (!found) {
    p.why = "a tile's halo for " + std::to_string(g.taps_h) + "x" + std::to_string(g.taps_w) + " taps does not fit shared memory";
    return p;
  }
  if (tiles_of(g) * g.n_tiles > 2147483647) p.why = "more tiles than a grid has blocks";
  return p;
}

// Of the copy engine, whose strides are multiples of 16 bytes.
inline int channels_step(DType type) { return static_cast<int>(16 / dtype_bytes(type)); }

inline std::string channels_error(int k, DType type, int n) {
  if (k % channels_step(type) || k < 16)
    return "the copy engine takes channels in multiples of " + std::to_string(channels_step(type)) + ", at least 16, not " +
           std::to_string(k);
  return n < 32 ? "fewer than 32 channels computed leave wgmma's 64 columns empty" : "";
}

inline std::string common_error(const Conv2dShape& s, const Fusion& f) {
  if (f.precision == Precision::fp32 || f.precision == Precision::fp32_exact) return "float32 is v6's";
  for (const DType type : {f.x_type, f.y_type})
    if (type != DType::f32 && type != half_type(f.precision)) return "this way to store a map is v5's to refuse";
  if (s.groups != 1) return "groups are v5's";
  if (s.N < 1) return "no images";
  if (!in_epilogues(f.activation)) return epilogue_error(f);
  return conv2d_shape_error(s);
}

inline std::string pool_error(const Conv2dShape& s, const Fusion& f) {
  if (f.pool == 1) return "";
  return f.pool != 2 || s.OH < 2 || s.OW < 2 || f.activation == Activation::sigmoid || f.negative_slope < 0.0f
             ? "this pool is v5's to judge"
             : "";
}

constexpr const char* kUpsampleOfOthers = "an upsample goes with a 3x3 convolution of padding 1 and no pool";

inline Problem transposed_problem(Problem p, Precision precision, bool unpool) {
  HaloGemm& g = p.g;
  g.rows = (g.out_H + g.step_h - 1) / g.step_h, g.cols = (g.out_W + g.step_w - 1) / g.step_w;
  p.phases = g.step_h * g.step_w;
  if (p.phases > 65535) {
    p.why = "stride_h * stride_w must be at most 65535, one grid row each";
    return p;
  }
  return finish(p, precision, false, unpool, (g.taps_h + g.step_h - 1) / g.step_h, (g.taps_w + g.step_w - 1) / g.step_w);
}

inline Problem forward_problem(const Conv2dForward& a) {
  const Conv2dShape& s = a.s;
  const Fusion& f = a.fusion;
  Problem p;
  HaloGemm& g = p.g;
  p.why = common_error(s, f);
  if (p.why.empty()) p.why = channels_error(s.C_in, f.x_type, s.C_out);
  if (p.why.empty() && f.upsample != 1 && !upsampled_3x3(s, f)) p.why = kUpsampleOfOthers;
  if (p.why.empty()) p.why = pool_error(s, f);
  if (p.why.empty() && (s.stride_h != 1 || s.stride_w != 1)) p.why = "strides are v5's";
  if (!p.why.empty()) return p;
  g.N = s.N, g.k_channels = s.C_in, g.n_channels = s.C_out;
  set_storage(g.halo, f.x_type, false);
  g.out_bytes = static_cast<int>(dtype_bytes(f.y_type));
  g.pairs = s.C_out % 2 == 0 && aligned16(a.y.data, a.saved.data, a.bias.data);
  p.src_H = s.H / f.upsample, p.src_W = s.W / f.upsample;
  g.out_H = s.OH / f.pool, g.out_W = s.OW / f.pool;
  if (f.upsample == 2) {
    p.form = WeightForm::upsampled;
    g.taps_h = g.taps_w = 4, g.step_h = g.step_w = 2, g.pad_top = g.pad_left = 1;
    return transposed_problem(p, f.precision, f.pool == 2);
  }
  g.taps_h = s.KH, g.taps_w = s.KW, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  g.rows = g.out_H * f.pool, g.cols = g.out_W * f.pool;
  return finish(p, f.precision, f.pool == 2, false, s.KH, s.KW);
}

inline Problem backward_input_problem(const Conv2dBackwardInput& a) {
  const Conv2dShape& s = a.s;
  const Fusion& f = a.fusion;
  Problem p;
  HaloGemm& g = p.g;
  p.why = common_error(s, f);
  if (p.why.empty()) p.why = channels_error(s.C_out, gradient_type(f.y_type), s.C_in);
  if (p.why.empty()) p.why = pool_error(s, f);
  if (p.why.empty() && f.pool == 2 && s.C_out % 16) p.why = "the copy engine takes a pool's codes in multiples of 16 channels";
  if (p.why.empty() && f.pool == 1 && f.activation != Activation::none) p.why = "an activation without a pool is v5's to refuse";
  if (p.why.empty() && f.upsample != 1 && !upsampled_3x3(s, f)) p.why = kUpsampleOfOthers;
  if (p.why.empty()) p.why = slopes_error(a);
  if (!p.why.empty()) return p;
  g.N = s.N, g.k_channels = s.C_out, g.n_channels = s.C_in;
  set_storage(g.halo, gradient_type(f.y_type), f.pool == 2);
  g.out_bytes = static_cast<int>(dtype_bytes(gradient_type(f.x_type)));
  g.pairs = s.C_in % 2 == 0 && aligned16(a.dx.data, a.x.data);
  if (f.upsample == 2) {
    p.form = WeightForm::upsampled_transposed;
    p.src_H = g.out_H = g.rows = s.H / 2, p.src_W = g.out_W = g.cols = s.W / 2;
    g.taps_h = g.taps_w = 2;
    p = finish(p, f.precision, false, false, 2, 2);
    p.g.chunks *= 4;  // of each phase
    return p;
  }
  p.src_H = s.OH / f.pool, p.src_W = s.OW / f.pool;
  g.halo.negative_slope = f.activation == Activation::leaky_relu ? f.negative_slope : 0.0f;
  g.out_H = s.H, g.out_W = s.W;
  g.taps_h = s.KH, g.taps_w = s.KW, g.step_h = s.stride_h, g.step_w = s.stride_w, g.pad_top = s.pad_top, g.pad_left = s.pad_left;
  p.form = WeightForm::transposed;
  return transposed_problem(p, f.precision, f.pool == 2);
}

// The weights as wgmma reads them, so that the copy engine can bring a tap of them in one piece.
template <class Args>
Errand preparation_of(const Problem& p, const Args& a) {
  const Precision f = a.fusion.precision;
  Errand e;
  e.kind = f == Precision::bf16   ? ErrandKind::prepare_bf16
           : f == Precision::fp16 ? ErrandKind::prepare_f16
                                  : ErrandKind::prepare_tf32;
  e.form = p.form;
  e.n = p.g.n_channels, e.k = p.g.k_channels;
  e.n_tiles = p.g.n_tiles, e.columns = p.columns, e.chunks = p.g.chunks, e.taps = p.g.taps_h * p.g.taps_w;
  e.from = a.w;
  e.to.bytes = int64_t(e.n_tiles) * e.columns * e.chunks * e.taps * kRowBytes;
  return e;
}
template <class Args>
int64_t preparation_bytes(const Problem& p, const Args& a) {  // of the workspace
  return a.prepared ? 0 : preparation_of(p, a).to.bytes;
}

}  // namespace warploom::v7
