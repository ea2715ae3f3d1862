// args.h - what the argument structs of all operations are made of: dtypes, layouts, buffers with a role, shapes, visitors.
//
// All sizes are in elements; all pointers are device pointers of the device that owns the table; all tensors are dense.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace warploom {

enum class DType : int { f32, f64, u8, i32, bf16, f16 };
enum class Layout : int { nchw, nhwc };
// oihw: [C_out, C_in/groups, KH, KW] (PyTorch's). ohwi: [C_out, KH, KW, C_in/groups]. hwio: [KH, KW, C_in/groups, C_out].
enum class WeightLayout : int { oihw, ohwi, hwio };
// Every activation, see ops/activation, in one of three lists; X(name) for each.
// What the epilogues of the CUDA convolutions hold: the others' code (exponentials, an error function) would cost each of them
// registers, and a separate pass costs the same on every device.
#define WL_EPILOGUE_ACTIVATIONS(X) X(none) X(relu) X(leaky_relu) X(sigmoid)
// The gradient follows from the output, and the input's memory is free for it.
#define WL_OUTPUT_ACTIVATIONS(X) X(tanh) X(elu) X(exp) X(signed_sqrt)
// The gradient needs the input.
#define WL_INPUT_ACTIVATIONS(X) X(silu) X(gelu) X(gelu_tanh) X(rsqrt)
#define WL_SMOOTH_ACTIVATIONS(X) WL_OUTPUT_ACTIVATIONS(X) WL_INPUT_ACTIVATIONS(X)
#define WL_ACTIVATIONS(X) WL_EPILOGUE_ACTIVATIONS(X) WL_SMOOTH_ACTIVATIONS(X)
#define WL_ITEM(name) name,
enum class Activation : int { WL_ACTIVATIONS(WL_ITEM) };
#undef WL_ITEM
// fp32 may use algorithms with fewer multiplications and a little more rounding (Winograd); fp32_exact only sums of products.
enum class Precision : int { fp32, fp32_exact, tf32, bf16, fp16 };
enum class UpsampleMode : int { nearest, bilinear };
enum class DepthOrder : int { dcr, crd, phases };   // see ops/depth_to_space
enum class LossKind : int { l1, bce_with_logits };  // see ops/pointwise_loss

inline bool in_epilogues(Activation a) { return a < Activation::tanh; }
inline bool gradient_needs_input(Activation a) { return a >= Activation::silu; }

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

// The product of sizes that are not negative, kTooMany where it is larger: what a caller or a file asks for is checked before it is
// believed, and a product that has wrapped would pass the check. Host code only.
constexpr int64_t kTooMany = int64_t(1) << 60;
template <class... Sizes>
int64_t elements(Sizes... sizes) {
  int64_t product = 1;
  bool over = false, none = false;
  for (const int64_t size : {static_cast<int64_t>(sizes)...}) {
    none = none || size == 0;
    over = over || __builtin_mul_overflow(product, size, &product) || product > kTooMany || product < -kTooMany;
    if (over) product = 1;
  }
  return none ? 0 : over ? kTooMany : product;
}

// ---- Shapes ----
struct Conv2dShape {
  int N = 0, C_in = 0, H = 0, W = 0;  // the convolution's input; after the upsample where one is folded in
  int C_out = 0, KH = 0, KW = 0;
  int stride_h = 1, stride_w = 1;
  int pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;  // zero padding
  int groups = 1;
  int OH = 0, OW = 0;  // (H + pad_top + pad_bottom - KH) / stride_h + 1, before a folded pool
  int64_t x_count() const { return elements(N, C_in, H, W); }
  int64_t y_count() const { return elements(N, C_out, OH, OW); }
  int64_t w_count() const { return elements(C_out, C_in / (groups > 0 ? groups : 1), KH, KW); }
};

// What the planner offers to fold into a convolution. An entry takes all of it or refuses (why_not) with a reason.
struct Fusion {
  Activation activation = Activation::none;  // after the bias
  float negative_slope = 0.0f;               // of leaky_relu; elu's alpha
  int pool = 1;  // max pool pool x pool, stride pool, floor, after the activation; y is [N, C_out, OH / pool, OW / pool]
  Precision precision = Precision::fp32;  // not folded in, but asked for along with the rest
  int upsample = 1;  // nearest upsample of x before the convolution; x is [N, C_in, H / upsample, W / upsample]
  // How the maps x and y are stored: f32, or bf16 or f16. Asked for like the precision; dx and dy: gradient_type().
  DType x_type = DType::f32, y_type = DType::f32;
};

// The 16 bits of a precision's operands, in which maps may be stored; f32: there are none.
inline DType half_type(Precision p) {
  return p == Precision::bf16 ? DType::bf16 : p == Precision::fp16 ? DType::f16 : DType::f32;
}
// How the gradient of a map is stored: like the map, but gradients of means lie below the range of f16.
inline DType gradient_type(DType map) { return map == DType::f16 ? DType::f32 : map; }

struct Pool2dShape {
  int N = 0, C = 0, H = 0, W = 0, KH = 0, KW = 0, stride_h = 0, stride_w = 0;
  int OH = 0, OW = 0;  // floor((H - KH) / stride_h) + 1
  int64_t x_count() const { return elements(N, C, H, W); }
  int64_t y_count() const { return elements(N, C, OH, OW); }
};

struct UpsampleShape {
  int N = 0, C = 0, H = 0, W = 0, scale_h = 1, scale_w = 1;  // [N, C, H, W] -> [N, C, H * scale_h, W * scale_w]
  int64_t x_count() const { return elements(N, C, H, W); }
  int64_t y_count() const { return elements(N, C, H, W, scale_h, scale_w); }
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
  v.attr("upsample", f.upsample), v.attr("precision", f.precision);
  v.attr("x_type", f.x_type), v.attr("y_type", f.y_type);
}
// What every loss has, behind its own attributes: loss = weight * value, f32[1]; grad = d loss / d prediction, empty: not wanted; total,
// where given: f64[2], total[0] += loss * samples, total[1] += samples (the running mean of an epoch, kept on the device). Sums are in
// double and in a fixed order. leaves: the value is left to another call.
template <class Self, class V>
void visit_loss(Self& a, V& v, int64_t predictions, int64_t targets, bool leaves = false) {
  v.attr("samples", a.samples), v.attr("weight", a.weight);
  v.tensor("prediction", a.prediction, DType::f32, predictions, false), v.tensor("target", a.target, DType::f32, targets, false);
  v.tensor("grad", a.grad, DType::f32, predictions, true), v.tensor("loss", a.loss, DType::f32, 1, leaves);
  v.tensor("total", a.total, DType::f64, 2, true);
}
inline int64_t fused_x_count(const Conv2dShape& s, const Fusion& f) {
  return f.upsample < 1 ? kTooMany : elements(s.N, s.C_in, s.H / f.upsample, s.W / f.upsample);
}
inline int64_t fused_y_count(const Conv2dShape& s, const Fusion& f) {
  return f.pool < 1 ? kTooMany : elements(s.N, s.C_out, s.OH / f.pool, s.OW / f.pool);
}

template <class Self, class V>
void visit_shape(Self& s, V& v, Pool2dShape*) {
  v.attr("N", s.N), v.attr("C", s.C), v.attr("H", s.H), v.attr("W", s.W), v.attr("KH", s.KH), v.attr("KW", s.KW);
  v.attr("stride_h", s.stride_h), v.attr("stride_w", s.stride_w), v.attr("OH", s.OH), v.attr("OW", s.OW);
}

}  // namespace warploom
