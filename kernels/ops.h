// ops.h - the contract between the engine and the kernels.
//
// The engine fills an argument struct and calls an entry of an OpTable; a kernel set ("version") fills the table. Nothing here
// knows CUDA, the emulator or the engine. Activations stand in the version's layout (OpTable::layout), weights in OpTable::weight_layout.
// Every output is written whole ("=", never "+="), whatever was in it before.
#pragma once

#include "args.h"
#include "ops/adabelief_update/args.h"
#include "ops/adam_update/args.h"
#include "ops/avg_pool2d/args.h"
#include "ops/batch_norm/args.h"
#include "ops/bias_activation/args.h"
#include "ops/concat/args.h"
#include "ops/cross_entropy_loss/args.h"
#include "ops/depth_to_space/args.h"
#include "ops/dice_loss/args.h"
#include "ops/gradient_norm/args.h"
#include "ops/multiply/args.h"
#include "ops/pointwise_loss/args.h"
#include "ops/rms_norm/args.h"
#include "ops/rmse_loss/args.h"
#include "ops/rmsprop_update/args.h"
#include "ops/ssim_loss/args.h"
#include "ops/upsample_weights/args.h"

namespace warploom {

struct Conv2dForward {  // y = pool(activation(conv(upsample(x), w) + bias)); saved: whatever the backward entries want kept
  Conv2dShape s;
  Fusion fusion;
  In x, w, bias;
  Out y, saved;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.tensor("x", a.x, DType::f32, fused_x_count(a.s, a.fusion), false), v.tensor("w", a.w, DType::f32, a.s.w_count(), false);
    v.tensor("bias", a.bias, DType::f32, a.s.C_out, true), v.tensor("y", a.y, DType::f32, fused_y_count(a.s, a.fusion), false);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
  }
};

// Backward entries: dy is the gradient of the *fused* output. With an activation or pool folded in, `y` is that output and
// `saved` is what the forward entry kept. An entry that wants plain convolutions only refuses any fusion.
struct Conv2dBackwardInput {
  Conv2dShape s;
  Fusion fusion;
  In dy, w, y, saved;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.tensor("dy", a.dy, DType::f32, fused_y_count(a.s, a.fusion), false), v.tensor("w", a.w, DType::f32, a.s.w_count(), false);
    v.tensor("y", a.y, DType::f32, fused_y_count(a.s, a.fusion), true);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
    v.tensor("dx", a.dx, DType::f32, fused_x_count(a.s, a.fusion), false);
  }
};
struct Conv2dBackwardWeight {  // dw = the sum over images and output pixels of dy times the input pixels that the tap meets
  Conv2dShape s;
  Fusion fusion;
  In dy, x, y, saved;
  Out dw;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.tensor("dy", a.dy, DType::f32, fused_y_count(a.s, a.fusion), false);
    v.tensor("x", a.x, DType::f32, fused_x_count(a.s, a.fusion), false);
    v.tensor("y", a.y, DType::f32, fused_y_count(a.s, a.fusion), true);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
    v.tensor("dw", a.dw, DType::f32, a.s.w_count(), false);
  }
};
struct Conv2dBackwardBias {  // db[c] = sum of dy over N, OH, OW
  Conv2dShape s;
  Fusion fusion;
  In dy, y, saved;
  Out db;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.tensor("dy", a.dy, DType::f32, fused_y_count(a.s, a.fusion), false);
    v.tensor("y", a.y, DType::f32, fused_y_count(a.s, a.fusion), true);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
    v.tensor("db", a.db, DType::f32, a.s.C_out, false);
  }
};
struct Conv2dBackward {  // all gradients in one call, for kernel sets that share work between them; dx, db empty: not wanted
  Conv2dShape s;
  Fusion fusion;
  In dy, x, w, y, saved;
  Out dx, dw, db;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Conv2dShape*)nullptr), visit_fusion(a.fusion, v);
    v.tensor("dy", a.dy, DType::f32, fused_y_count(a.s, a.fusion), false);
    v.tensor("x", a.x, DType::f32, fused_x_count(a.s, a.fusion), false), v.tensor("w", a.w, DType::f32, a.s.w_count(), false);
    v.tensor("y", a.y, DType::f32, fused_y_count(a.s, a.fusion), true);
    v.tensor("saved", a.saved, DType::u8, kEntryDecides, true);
    v.tensor("dx", a.dx, DType::f32, fused_x_count(a.s, a.fusion), true), v.tensor("dw", a.dw, DType::f32, a.s.w_count(), false);
    v.tensor("db", a.db, DType::f32, a.s.C_out, true);
  }
};

struct MaxPool2dForward {  // index: h * W + w of the maximum in its input plane (PyTorch's convention; first one wins); NaN wins
  Pool2dShape s;
  In x;
  Out y, index;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Pool2dShape*)nullptr);
    v.tensor("x", a.x, DType::f32, a.s.x_count(), false), v.tensor("y", a.y, DType::f32, a.s.y_count(), false);
    v.tensor("index", a.index, DType::i32, a.s.y_count(), true);  // empty at inference
  }
};
struct MaxPool2dBackward {  // windows may overlap (stride < kernel): contributions are summed in a fixed order, without atomics
  Pool2dShape s;
  In dy, index;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (Pool2dShape*)nullptr);
    v.tensor("dy", a.dy, DType::f32, a.s.y_count(), false), v.tensor("index", a.index, DType::i32, a.s.y_count(), false);
    v.tensor("dx", a.dx, DType::f32, a.s.x_count(), false);
  }
};

template <class Self, class V>
void visit_shape(Self& s, V& v, UpsampleShape*) {
  v.attr("N", s.N), v.attr("C", s.C), v.attr("H", s.H), v.attr("W", s.W), v.attr("scale_h", s.scale_h),
      v.attr("scale_w", s.scale_w);
}
struct UpsampleForward {  // nearest: each pixel becomes scale_h x scale_w; bilinear: half-pixel centres, edges clamped
  UpsampleShape s;
  UpsampleMode mode = UpsampleMode::nearest;
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (UpsampleShape*)nullptr), v.attr("mode", a.mode);
    v.tensor("x", a.x, DType::f32, a.s.x_count(), false), v.tensor("y", a.y, DType::f32, a.s.y_count(), false);
  }
};
struct UpsampleBackward {  // the adjoint: every input pixel collects its share of the output pixels
  UpsampleShape s;
  UpsampleMode mode = UpsampleMode::nearest;
  In dy;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    visit_shape(a.s, v, (UpsampleShape*)nullptr), v.attr("mode", a.mode);
    v.tensor("dy", a.dy, DType::f32, a.s.y_count(), false), v.tensor("dx", a.dx, DType::f32, a.s.x_count(), false);
  }
};

struct ActivationForward {  // y may be x (in place)
  int64_t count = 0;
  Activation kind = Activation::relu;
  float negative_slope = 0.0f;
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("kind", a.kind), v.attr("negative_slope", a.negative_slope);
    v.tensor("x", a.x, DType::f32, a.count, false), v.tensor("y", a.y, DType::f32, a.count, false);
  }
};
struct ActivationBackward {  // from the *output* y (for relu and leaky_relu the input serves as well: same sign); dx may be dy
  int64_t count = 0;
  Activation kind = Activation::relu;
  float negative_slope = 0.0f;
  In dy, y;
  Out dx;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("kind", a.kind), v.attr("negative_slope", a.negative_slope);
    v.tensor("dy", a.dy, DType::f32, a.count, false), v.tensor("y", a.y, DType::f32, a.count, false);
    v.tensor("dx", a.dx, DType::f32, a.count, false);
  }
};

// loss = weight * mean((prediction - target)^2) over `count` elements; grad = d loss / d prediction = weight * 2 / count * (p -
// t). total, where given: f64[2], total[0] += loss * samples, total[1] += samples (the running mean of an epoch, kept on the
// device).
struct MseLoss {
  int64_t count = 0;
  int samples = 0;
  float weight = 1.0f;
  In prediction, target;
  Out grad, loss;  // grad empty: not wanted. loss: f32[1]
  InOut total;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("samples", a.samples), v.attr("weight", a.weight);
    v.tensor("prediction", a.prediction, DType::f32, a.count, false), v.tensor("target", a.target, DType::f32, a.count, false);
    v.tensor("grad", a.grad, DType::f32, a.count, true), v.tensor("loss", a.loss, DType::f32, 1, false);
    v.tensor("total", a.total, DType::f64, 2, true);
  }
};

// PyTorch's SGD: d = g + weight_decay * w; velocity = momentum * velocity + d; w -= lr * (nesterov ? d + momentum * velocity :
// velocity). Without a velocity buffer: w -= lr * d. hyper lives on the device, so that a captured step sees a changed learning
// rate.
struct SgdUpdate {
  int64_t count = 0;
  int nesterov = 0;
  In hyper;  // f32[3]: lr, momentum, weight_decay
  In scale;  // f32[1]: g is multiplied by it first (gradient clipping); empty: 1
  In g;
  InOut w, velocity;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("nesterov", a.nesterov);
    v.tensor("hyper", a.hyper, DType::f32, 3, false), v.tensor("scale", a.scale, DType::f32, 1, true);
    v.tensor("g", a.g, DType::f32, a.count, false);
    v.tensor("w", a.w, DType::f32, a.count, false), v.tensor("velocity", a.velocity, DType::f32, a.count, true);
  }
};

struct Add {  // y = a + b; y may be a or b
  int64_t count = 0;
  In a, b;
  Out y;
  template <class Self, class V>
  static void visit(Self& s, V& v) {
    v.attr("count", s.count), v.tensor("a", s.a, DType::f32, s.count, false), v.tensor("b", s.b, DType::f32, s.count, false);
    v.tensor("y", s.y, DType::f32, s.count, false);
  }
};

struct LayoutConvert {  // x in layout `from` -> y in layout `to`, both [N, C, H, W] by name
  int N = 0, C = 0, H = 0, W = 0;
  Layout from = Layout::nchw, to = Layout::nhwc;
  In x;
  Out y;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("H", a.H), v.attr("W", a.W), v.attr("from", a.from), v.attr("to", a.to);
    const int64_t count = elements(a.N, a.C, a.H, a.W);
    v.tensor("x", a.x, DType::f32, count, false), v.tensor("y", a.y, DType::f32, count, false);
  }
};

// One batch out of a data set that lives on the device: x[n] = scale * images[order[cursor[0] + n]], NCHW rows in, x in `to`.
// The caller guarantees cursor[0] + N <= rows and order < images.
struct GatherImages {
  int N = 0, C = 0, H = 0, W = 0;
  int64_t images_count = 0, rows = 0;
  DType dtype = DType::u8;  // u8 or f32
  float scale = 1.0f;
  Layout to = Layout::nchw;
  In images, order, cursor;  // [images_count, C, H, W]; i32[rows]; i32[1]
  Out x;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("N", a.N), v.attr("C", a.C), v.attr("H", a.H), v.attr("W", a.W), v.attr("images_count", a.images_count);
    v.attr("rows", a.rows), v.attr("dtype", a.dtype), v.attr("scale", a.scale), v.attr("to", a.to);
    v.tensor("images", a.images, a.dtype, elements(a.images_count, a.C, a.H, a.W), false);
    v.tensor("order", a.order, DType::i32, a.rows, false), v.tensor("cursor", a.cursor, DType::i32, 1, false);
    v.tensor("x", a.x, DType::f32, elements(a.N, a.C, a.H, a.W), false);
  }
};
struct AdvanceCursor {  // cursor[0] += step
  int step = 0;
  InOut cursor;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("step", a.step), v.tensor("cursor", a.cursor, DType::i32, 1, false);
  }
};

// ---- The table ----
struct DeviceInfo {
  std::string name;                          // as the driver or /proc/cpuinfo says
  int compute_major = 0, compute_minor = 0;  // cuda; the emulator reports 9.0
  int multiprocessors = 1;                   // cpu and emulator: worker threads
  int64_t shared_bytes_per_block = 0;        // static limit (48 KiB)
  int64_t shared_bytes_optin = 0;            // dynamic limit
  int64_t memory_bytes = 0;
};

struct Context {  // what a launcher gets besides its arguments
  void* stream = nullptr;
  InOut workspace;  // at least workspace_bytes() of the entry; contents undefined before and after
  const DeviceInfo* device = nullptr;
};

template <class Args>
struct Entry {
  void (*run)(const Args&, const Context&) = nullptr;  // nullptr: the kernel set has no such entry
  std::string (*why_not)(const Args&) = nullptr;  // "" takes it, else one sentence naming the precondition; nullptr: takes all
  int64_t (*workspace_bytes)(const Args&) = nullptr;  // nullptr: none
  int64_t (*saved_bytes)(const Args&) = nullptr;      // forward entries: bytes kept for backward; nullptr: none
  const char* (*algorithm)(const Args&) = nullptr;    // which of several ways it takes, for reports; nullptr: there is one
};

struct OpTable {
  const char* version = "";
  const char* summary = "";
  const char* float32_from = "";  // the version whose float32 convolutions it takes over; "": it has its own
  int compute_capability = 0;     // the only one it runs on, as 90 for 9.0; 0: any
  Layout layout = Layout::nchw;
  WeightLayout weight_layout = WeightLayout::oihw;
#define WL_OP(name, Args) Entry<Args> name;
#include "ops.def"
#undef WL_OP
};

}  // namespace warploom
