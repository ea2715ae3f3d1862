// ops.h - the contract between the engine and the kernels.
//
// The engine fills an argument struct and calls an entry of an OpTable; a kernel set ("version") fills the table. Nothing here
// knows CUDA, the emulator or the engine. All sizes are in elements; all pointers are device pointers of the device that owns the
// table; all tensors are dense. Activations stand in the version's layout (OpTable::layout), weights in OpTable::weight_layout.
// Every output is written whole ("=", never "+="), whatever was in it before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace warploom {

enum class DType : int { f32, f64, u8, i32, bf16, f16 };
enum class Layout : int { nchw, nhwc };
// oihw: [C_out, C_in/groups, KH, KW] (PyTorch's). ohwi: [C_out, KH, KW, C_in/groups]. hwio: [KH, KW, C_in/groups, C_out].
enum class WeightLayout : int { oihw, ohwi, hwio };
enum class Activation : int { none, relu, leaky_relu, sigmoid };
enum class UpsampleMode : int { nearest, bilinear };

inline int64_t dtype_bytes(DType t) {
  switch (t) {
    case DType::f64:
      return 8;
    case DType::u8:
      return 1;
    case DType::bf16:
    case DType::f16:
      return 2;
    default:
      return 4;
  }
}

// ---- Buffers: device memory with a role. An empty one (data == nullptr) means "not given" or "not wanted". ----
struct In {  // only read
  const void* data = nullptr;
  int64_t bytes = 0;
  template <class T = float>
  const T* ptr() const {
    return static_cast<const T*>(data);
  }
  explicit operator bool() const { return data != nullptr; }
};
struct Out {  // written whole, not read before it is written
  void* data = nullptr;
  int64_t bytes = 0;
  template <class T = float>
  T* ptr() const {
    return static_cast<T*>(data);
  }
  explicit operator bool() const { return data != nullptr; }
};
struct InOut {  // updated
  void* data = nullptr;
  int64_t bytes = 0;
  template <class T = float>
  T* ptr() const {
    return static_cast<T*>(data);
  }
  explicit operator bool() const { return data != nullptr; }
};

// ---- Shapes ----
struct Conv2dShape {
  int N = 0, C_in = 0, H = 0, W = 0;  // the convolution's input; after the upsample where one is folded in
  int C_out = 0, KH = 0, KW = 0;
  int stride_h = 1, stride_w = 1;
  int pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;  // zero padding
  int groups = 1;
  int OH = 0, OW = 0;  // (H + pad_top + pad_bottom - KH) / stride_h + 1, before a folded pool
  int64_t x_count() const { return int64_t(N) * C_in * H * W; }
  int64_t y_count() const { return int64_t(N) * C_out * OH * OW; }
  int64_t w_count() const { return int64_t(C_out) * (C_in / (groups > 0 ? groups : 1)) * KH * KW; }
};

// What the planner offers to fold into a convolution. An entry takes all of it or refuses (why_not) with a reason.
struct Fusion {
  Activation activation = Activation::none;  // after the bias
  float negative_slope = 0.0f;               // leaky_relu
  int pool = 1;      // max pool pool x pool, stride pool, floor, after the activation; y is [N, C_out, OH / pool, OW / pool]
  int upsample = 1;  // nearest upsample of x before the convolution; x is [N, C_in, H / upsample, W / upsample]
};

struct Pool2dShape {
  int N = 0, C = 0, H = 0, W = 0, KH = 0, KW = 0, stride_h = 0, stride_w = 0;
  int OH = 0, OW = 0;  // floor((H - KH) / stride_h) + 1
  int64_t x_count() const { return int64_t(N) * C * H * W; }
  int64_t y_count() const { return int64_t(N) * C * OH * OW; }
};

struct UpsampleShape {
  int N = 0, C = 0, H = 0, W = 0, scale_h = 1, scale_w = 1;  // [N, C, H, W] -> [N, C, H * scale_h, W * scale_w]
  int64_t x_count() const { return int64_t(N) * C * H * W; }
  int64_t y_count() const { return x_count() * scale_h * scale_w; }
};

// ---- Argument structs. `visit` names every field once: Python calls, the planner, the checks and the docs are made from it.
// ---- v.attr(name, field); v.tensor(name, buffer, dtype, elements, optional). elements == kEntryDecides: the entry's
// saved_bytes() says.
constexpr int64_t kEntryDecides = -1;

template <class Self, class V>
void visit_shape(Self& s, V& v, Conv2dShape*) {
  v.attr("N", s.N), v.attr("C_in", s.C_in), v.attr("H", s.H), v.attr("W", s.W), v.attr("C_out", s.C_out);
  v.attr("KH", s.KH), v.attr("KW", s.KW), v.attr("stride_h", s.stride_h), v.attr("stride_w", s.stride_w);
  v.attr("pad_top", s.pad_top), v.attr("pad_bottom", s.pad_bottom), v.attr("pad_left", s.pad_left),
      v.attr("pad_right", s.pad_right);
  v.attr("groups", s.groups), v.attr("OH", s.OH), v.attr("OW", s.OW);
}
template <class Self, class V>
void visit_fusion(Self& f, V& v) {
  v.attr("activation", f.activation), v.attr("negative_slope", f.negative_slope), v.attr("pool", f.pool);
  v.attr("upsample", f.upsample);
}
inline int64_t fused_x_count(const Conv2dShape& s, const Fusion& f) { return s.x_count() / (int64_t(f.upsample) * f.upsample); }
inline int64_t fused_y_count(const Conv2dShape& s, const Fusion& f) {
  return int64_t(s.N) * s.C_out * (s.OH / f.pool) * (s.OW / f.pool);
}

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
struct Conv2dBackwardWeight {
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

template <class Self, class V>
void visit_shape(Self& s, V& v, Pool2dShape*) {
  v.attr("N", s.N), v.attr("C", s.C), v.attr("H", s.H), v.attr("W", s.W), v.attr("KH", s.KH), v.attr("KW", s.KW);
  v.attr("stride_h", s.stride_h), v.attr("stride_w", s.stride_w), v.attr("OH", s.OH), v.attr("OW", s.OW);
}
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
struct UpsampleForward {
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
struct UpsampleBackward {
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
  In g;
  InOut w, velocity;
  template <class Self, class V>
  static void visit(Self& a, V& v) {
    v.attr("count", a.count), v.attr("nesterov", a.nesterov);
    v.tensor("hyper", a.hyper, DType::f32, 3, false), v.tensor("g", a.g, DType::f32, a.count, false);
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
    const int64_t count = int64_t(a.N) * a.C * a.H * a.W;
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
    v.tensor("images", a.images, a.dtype, a.images_count * a.C * a.H * a.W, false);
    v.tensor("order", a.order, DType::i32, a.rows, false), v.tensor("cursor", a.cursor, DType::i32, 1, false);
    v.tensor("x", a.x, DType::f32, int64_t(a.N) * a.C * a.H * a.W, false);
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
};

struct OpTable {
  const char* version = "";
  const char* summary = "";
  Layout layout = Layout::nchw;
  WeightLayout weight_layout = WeightLayout::oihw;
#define WL_OP(name, Args) Entry<Args> name;
#include "ops.def"
#undef WL_OP
};

}  // namespace warploom
