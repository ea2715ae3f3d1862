// conv2d.cu (v6): the convolution entries: y = pool(activation(conv(upsample(x), w) + bias)) and its gradients. Host code only: what a
// scheme takes goes to convolution.cu, everything else to v5, whose float32 is v2's.
#include <algorithm>

#include "../v2_tiled_nhwc/table.h"
#include "../v5_tensor_cores/table.h"
#include "choice.h"
#include "convolution.h"
#include "entries.h"

namespace warploom::v6 {

// Where no scheme takes the call. v5's own sentence would speak for v2; what cannot be folded says which scheme did not want it.
template <class Args>
static std::string why_not_direct(const Args& a, const Entry<Args>& entry, const std::string& why) {
  const std::string refused = entry.why_not ? entry.why_not(a) : "";
  return !refused.empty() && a.fusion.precision == Precision::fp32 && folds_anything(a.fusion) ? why : refused;
}
template <class Args>
static int64_t workspace_direct(const Args& a, const Entry<Args>& entry) {
  return entry.workspace_bytes ? entry.workspace_bytes(a) : 0;
}

// ---- Forward ----

static int64_t forward(const Context* context, Scheme scheme, const Conv2dForward& a) {
  const Conv2dShape& s = a.s;
  const int up = a.fusion.upsample;
  const Map x{a.x.ptr(), nullptr, s.H / up, s.W / up, s.C_in, 0.0f};
  Result y;
  y.H = s.OH, y.W = s.OW, y.C = s.C_out, y.pool = a.fusion.pool;
  y.bias = a.bias.ptr(), y.activation = a.fusion.activation, y.slope = a.fusion.negative_slope;
  y.y = a.y.ptr(), y.codes = a.saved.ptr<unsigned char>();
  if (scheme == Scheme::few_inputs) {
    if (context) few_inputs_forward(*context, s.N, x, s.pad_top, s.pad_left, a.w.ptr(), y);
    return 0;
  }
  return convolve(context, scheme, FilterForm::forward, s.N, x, up == 2 ? 1 : s.pad_top, up == 2 ? 1 : s.pad_left, s.C_in,
                  s.C_out, a.w.ptr(), y);
}

static void run_forward(const Conv2dForward& a, const Context& context) {
  const Scheme scheme = choose(a.s, a.fusion);
  if (scheme == Scheme::none) return v5::table().conv2d_forward.run(a, context);
  forward(&context, scheme, a);
}
static std::string why_not_forward(const Conv2dForward& a) {
  std::string why;
  return choose(a.s, a.fusion, &why) == Scheme::none ? why_not_direct(a, v5::table().conv2d_forward, why) : "";
}
static int64_t workspace_forward(const Conv2dForward& a) {
  const Scheme scheme = choose(a.s, a.fusion);
  return scheme == Scheme::none ? workspace_direct(a, v5::table().conv2d_forward) : forward(nullptr, scheme, a);
}
static int64_t saved_forward(const Conv2dForward& a) {
  if (choose(a.s, a.fusion) == Scheme::none) return v5::table().conv2d_forward.saved_bytes(a);
  return a.fusion.pool == 2 ? fused_y_count(a.s, a.fusion) : 0;
}
static const char* algorithm_forward(const Conv2dForward& a) {
  const Scheme scheme = choose(a.s, a.fusion);
  return scheme == Scheme::none ? v5::table().conv2d_forward.algorithm(a) : scheme_name(scheme);
}
static Errand preparation_forward(const Conv2dForward& a) {
  return choose(a.s, a.fusion) == Scheme::none ? v5::table().conv2d_forward.preparation(a) : Errand();
}
Entry<Conv2dForward> conv2d_forward() {
  return {run_forward, why_not_forward, workspace_forward, saved_forward, algorithm_forward, preparation_forward};
}

// ---- Gradients ----

static Gradients gradients(Scheme scheme, const Conv2dShape& s, const Fusion& f, const In& dy, const In& saved) {
  Gradients g;
  g.scheme = scheme, g.s = s;
  g.dy = {dy.ptr(), f.pool == 2 ? saved.ptr<unsigned char>() : nullptr,
          s.OH,     s.OW,
          s.C_out,  f.activation == Activation::leaky_relu ? f.negative_slope : f.activation == Activation::none ? 1.0f : 0.0f};
  return g;
}
static Gradients gradients(Scheme scheme, const Conv2dBackwardInput& a) {
  Gradients g = gradients(scheme, a.s, a.fusion, a.dy, a.saved);
  g.w = a.w.ptr(), g.dx = a.dx.ptr(), g.want_dx = true;
  return g;
}
static Gradients gradients(Scheme scheme, const Conv2dBackwardWeight& a) {
  Gradients g = gradients(scheme, a.s, a.fusion, a.dy, a.saved);
  g.x = a.x.ptr(), g.dw = a.dw.ptr(), g.want_dw = true;
  return g;
}
// While planning there may be no pointers yet: dx counts as wanted then.
static Gradients gradients(Scheme scheme, const Conv2dBackward& a) {
  Gradients g = gradients(scheme, a.s, a.fusion, a.dy, a.saved);
  g.x = a.x.ptr(), g.w = a.w.ptr(), g.dx = a.dx.ptr(), g.dw = a.dw.ptr();
  g.want_dw = true, g.want_dx = a.dx || !a.dw;
  return g;
}

// An activation goes with its pool, whose maxima tell the signs; without one its gradient would be read once per pass.
static std::string activation_error(const Fusion& f) {
  return f.activation != Activation::none && f.pool == 1
             ? "v6 folds no activation into the gradients of a convolution; run its gradient as an operation of its own"
             : "";
}
template <class Args>
static Scheme choose_gradient(const Args& a, std::string* why = nullptr) {
  std::string refused = activation_error(a.fusion);
  if (refused.empty()) refused = taken_along_error(a);
  if (refused.empty()) return choose(a.s, a.fusion, why);
  if (why) *why = refused;
  return Scheme::none;
}

// Of a first layer only the pooled gradients are this version's: dw by its own kernel, dx, which hardly anybody wants, by a scheme.
template <class Args>
static Scheme choose_part(const Args& a, std::string* why = nullptr) {
  const Scheme scheme = choose_gradient(a, why);
  return scheme == Scheme::few_inputs && a.fusion.pool == 1 ? Scheme::none : scheme;
}
static int64_t differentiate_part(const Context* context, Gradients g) {
  if (g.scheme != Scheme::few_inputs) return differentiate(context, g);
  if (g.want_dw) return few_inputs_weight(context, g);
  g.scheme = Scheme::winograd4;
  return differentiate(context, g);
}

template <class Args, Entry<Args> OpTable::* kEntry>
struct Gradient {
  static void run(const Args& a, const Context& context) {
    const Scheme scheme = choose_part(a);
    if (scheme == Scheme::none) return (v5::table().*kEntry).run(a, context);
    differentiate_part(&context, gradients(scheme, a));
  }
  static std::string why_not(const Args& a) {
    std::string why;
    return choose_part(a, &why) == Scheme::none ? why_not_direct(a, v5::table().*kEntry, why) : "";
  }
  static int64_t workspace(const Args& a) {
    const Scheme scheme = choose_part(a);
    return scheme == Scheme::none ? workspace_direct(a, v5::table().*kEntry) : differentiate_part(nullptr, gradients(scheme, a));
  }
  static const char* algorithm(const Args& a) {
    const Scheme scheme = choose_part(a);
    if (scheme == Scheme::none) return (v5::table().*kEntry).algorithm(a);
    return scheme_name(scheme == Scheme::few_inputs && gradients(scheme, a).want_dx ? Scheme::winograd4 : scheme);
  }
  static Errand preparation(const Args& a) {
    const Entry<Args>& direct = v5::table().*kEntry;
    return direct.preparation && choose_part(a) == Scheme::none ? direct.preparation(a) : Errand();
  }
  static Rest rest(const Args& a) {
    const Entry<Args>& direct = v5::table().*kEntry;
    return direct.rest && choose_part(a) == Scheme::none ? direct.rest(a) : Rest();
  }
  static Entry<Args> entry() { return {run, why_not, workspace, nullptr, algorithm, preparation, rest}; }
};
Entry<Conv2dBackwardInput> conv2d_backward_input() {
  return Gradient<Conv2dBackwardInput, &OpTable::conv2d_backward_input>::entry();
}
Entry<Conv2dBackwardWeight> conv2d_backward_weight() {
  return Gradient<Conv2dBackwardWeight, &OpTable::conv2d_backward_weight>::entry();
}

// The sum of dy is nothing to a scheme: v2's of a plain map, v5's of a pooled one, which is a float32 sum whatever the precision.
static Conv2dBackwardBias without_scheme(const Conv2dBackwardBias& a) {
  Conv2dBackwardBias plain = a;
  plain.fusion.upsample = 1;
  if (a.fusion.pool == 2) plain.fusion.precision = Precision::tf32;
  return plain;
}
static void run_bias(const Conv2dBackwardBias& a, const Context& context) {
  const bool scheme = choose_gradient(a) != Scheme::none;
  v5::table().conv2d_backward_bias.run(scheme ? without_scheme(a) : a, context);
}
static std::string why_not_bias(const Conv2dBackwardBias& a) {
  std::string why;
  return choose_gradient(a, &why) == Scheme::none ? why_not_direct(a, v5::table().conv2d_backward_bias, why) : "";
}
static int64_t workspace_bias(const Conv2dBackwardBias& a) {
  const bool scheme = choose_gradient(a) != Scheme::none;
  return workspace_direct(scheme ? without_scheme(a) : a, v5::table().conv2d_backward_bias);
}
Entry<Conv2dBackwardBias> conv2d_backward_bias() { return {run_bias, why_not_bias, workspace_bias, nullptr, nullptr}; }

// All gradients in one call: after an upsample dy is transformed once for two of them.
static Conv2dBackwardBias bias_of(const Conv2dBackward& a) {
  Conv2dBackwardBias b;
  b.s = a.s, b.fusion = a.fusion, b.dy = a.dy, b.y = a.y, b.saved = a.saved, b.db = a.db;
  return b;
}
static void run_all(const Conv2dBackward& a, const Context& context) {
  differentiate(&context, gradients(choose_gradient(a), a));
  if (a.db) run_bias(bias_of(a), context);
}
static std::string why_not_all(const Conv2dBackward& a) {
  std::string why;
  if (choose_gradient(a, &why) == Scheme::few_inputs) return "v6 computes the gradients of a first layer one by one";
  return why;
}
static int64_t workspace_all(const Conv2dBackward& a) {
  return std::max(differentiate(nullptr, gradients(choose_gradient(a), a)), workspace_bias(bias_of(a)));
}
static const char* algorithm_all(const Conv2dBackward& a) { return scheme_name(choose_gradient(a)); }
Entry<Conv2dBackward> conv2d_backward() { return {run_all, why_not_all, workspace_all, nullptr, algorithm_all}; }

}  // namespace warploom::v6
