// conv.cpp - the convolution entries: from argument structs to one Conv, and the choice of the algorithm.
//
// Every algorithm states its preconditions and a cost; the cheapest that takes the shape runs. WARPLOOM_CPU_CONV=NAME forces one
// by name, for tests and measurements: shapes it cannot take are then refused with its reason.
#include "conv.h"

#include <cstdlib>

#include "entries.h"
#include "kernels/common/preconditions.h"

namespace warploom::cpu {
namespace {

const Algorithm* const kAlgorithms[] = {&kDepthwise, &kPointwise, &kDirect,     &kColumns,    &kWinograd4,
                                        &kWinograd2, &kUpsample9, &kUpsample25, &kUpsample81, &kStrided25,
                                        &kStrided36, &kRows,      &kIm2col};

std::string shape_error(const Conv& c) {
  const auto& s = c.s;
  if (s.groups < 1 || s.C_in % s.groups != 0 || s.C_out % s.groups != 0)
    return "the channels (" + std::to_string(s.C_in) + " in, " + std::to_string(s.C_out) + " out) must be multiples of groups (" +
           std::to_string(s.groups) + ")";
  const std::string problem = conv2d_shape_error(s);
  if (!problem.empty()) return problem;
  if (c.f.precision != Precision::fp32 && c.f.precision != Precision::fp32_exact)
    return "the cpu kernel set computes in float32 only; use precision fp32 or fp32-exact";
  const std::string stored = storage_error(c.f.x_type, c.f.y_type);
  if (!stored.empty()) return stored;
  if (gradient_needs_input(c.f.activation)) {
    if (c.want_dx || c.want_dw || c.want_db)
      return "the gradient of this activation needs the convolution's sums, which are not kept; run it as an operation of its "
             "own";
    if (c.f.pool > 1)
      return "the maximum of a window is taken before the activation, and this one also falls; run it as an operation of its own";
  }
  if (c.f.upsample < 1 || c.f.pool < 1) return "upsample and pool of a fusion must be at least 1";
  if (s.H % c.f.upsample != 0 || s.W % c.f.upsample != 0)
    return "a folded upsample by " + std::to_string(c.f.upsample) + " needs an input height and width that it divides, got " +
           std::to_string(s.H) + " x " + std::to_string(s.W);
  return "";
}

// The algorithm, or nullptr and why there is none.
const Algorithm* choose(const Conv& c, std::string* why) {
  std::string reason = shape_error(c);
  const char* forced = std::getenv("WARPLOOM_CPU_CONV");
  const Algorithm* best = nullptr;
  if (reason.empty() && forced && *forced) {
    reason = "WARPLOOM_CPU_CONV is \"" + std::string(forced) + "\"; the algorithms are:";
    for (const auto* a : kAlgorithms) {
      reason += std::string(" ") + a->name;
      if (std::string(forced) != a->name) continue;
      best = a, reason = a->why_not(c);
      if (!reason.empty()) best = nullptr, reason = std::string(a->name) + ": " + reason;
      break;
    }
  } else if (reason.empty()) {
    double lowest = 0;
    for (const auto* a : kAlgorithms) {
      const std::string refused = a->why_not(c);
      if (!refused.empty()) {
        reason = refused;
        continue;
      }
      const double cost = a->cost(c);
      if (!best || cost < lowest) best = a, lowest = cost;
    }
  }
  if (!best && why) *why = reason;
  return best;
}

std::string refusal(const Conv& c) {
  std::string why;
  choose(c, &why);
  return why;
}

const Algorithm& chosen(const Conv& c) {
  std::string why;
  const Algorithm* a = choose(c, &why);
  if (!a) throw DeviceError(why);
  return *a;
}

const char* algorithm_of(const Conv& c) { return chosen(c).name; }

int64_t workspace(const Conv& c, void (*Algorithm::*pass)(const Conv&, Carver&, bool)) {
  Carver ws;
  if (c.s.N > 0) (chosen(c).*pass)(c, ws, false);
  return ws.used();
}

void run(const Conv& c, const Context& context, void (*Algorithm::*pass)(const Conv&, Carver&, bool)) {
  const int64_t needed = workspace(c, pass);
  if (needed > context.workspace.bytes)
    throw DeviceError("the convolution needs a workspace of " + std::to_string(needed) + " bytes and was given " +
                      std::to_string(context.workspace.bytes) + "; did WARPLOOM_CPU_CONV change after planning?");
  Carver ws(context.workspace);
  (chosen(c).*pass)(c, ws, true);
}

Conv conv_of(const Conv2dForward& a) {
  Conv c;
  c.s = a.s, c.f = a.fusion, c.x = a.x.ptr(), c.w = a.w.ptr(), c.bias = a.bias.ptr(), c.out = a.y.ptr();
  c.argmax = a.fusion.pool > 1 ? a.saved.ptr<uint8_t>() : nullptr;
  return c;
}
template <class Args>
Conv backward_of(const Args& a) {
  Conv c;
  c.s = a.s, c.f = a.fusion, c.dy = a.dy.ptr(), c.y = a.y.ptr();
  c.argmax = a.fusion.pool > 1 ? const_cast<uint8_t*>(a.saved.template ptr<uint8_t>()) : nullptr;
  return c;
}
Conv conv_of(const Conv2dBackwardInput& a) {
  Conv c = backward_of(a);
  c.w = a.w.ptr(), c.dx = a.dx.ptr(), c.want_dx = true;
  return c;
}
Conv conv_of(const Conv2dBackwardWeight& a) {
  Conv c = backward_of(a);
  c.x = a.x.ptr(), c.dw = a.dw.ptr(), c.want_dw = true;
  return c;
}
Conv conv_of(const Conv2dBackwardBias& a) {
  Conv c = backward_of(a);
  c.db = a.db.ptr(), c.want_db = true;
  return c;
}
// While planning there may be no pointers yet: everything counts as wanted then.
Conv conv_of(const Conv2dBackward& a) {
  Conv c = backward_of(a);
  const bool planning = !a.dw;
  c.x = a.x.ptr(), c.w = a.w.ptr(), c.dx = a.dx.ptr(), c.dw = a.dw.ptr(), c.db = a.db.ptr();
  c.want_dx = planning || a.dx, c.want_dw = true, c.want_db = planning || a.db;
  return c;
}

void run_backward(const Conv& c, const Context& context) {
  if ((c.f.activation != Activation::none && !c.y) || (c.f.pool > 1 && !c.argmax && (c.want_dx || c.want_dw)))
    throw DeviceError("the gradient of a fused convolution needs its output y and what the forward pass saved");
  if (c.s.N == 0) {
    if (c.want_dw) std::fill(c.dw, c.dw + c.s.w_count(), 0.0f);
    if (c.want_db) std::fill(c.db, c.db + c.s.C_out, 0.0f);
    return;
  }
  run(c, context, &Algorithm::backward);
}

}  // namespace

void conv2d_forward(const Conv2dForward& a, const Context& context) {
  if (a.s.N > 0) run(conv_of(a), context, &Algorithm::forward);
}
std::string conv2d_forward_why_not(const Conv2dForward& a) { return refusal(conv_of(a)); }
const char* conv2d_forward_algorithm(const Conv2dForward& a) { return algorithm_of(conv_of(a)); }
int64_t conv2d_forward_workspace(const Conv2dForward& a) { return workspace(conv_of(a), &Algorithm::forward); }
int64_t conv2d_forward_saved(const Conv2dForward& a) { return a.fusion.pool > 1 ? fused_y_count(a.s, a.fusion) : 0; }

#define WL_BACKWARD(name, Args)                                                           \
  void name(const Args& a, const Context& context) { run_backward(conv_of(a), context); } \
  std::string name##_why_not(const Args& a) {                                             \
    const std::string why = taken_along_error(a);                                         \
    return why.empty() ? refusal(conv_of(a)) : why;                                       \
  }                                                                                       \
  const char* name##_algorithm(const Args& a) { return algorithm_of(conv_of(a)); }        \
  int64_t name##_workspace(const Args& a) { return workspace(conv_of(a), &Algorithm::backward); }
WL_BACKWARD(conv2d_backward_input, Conv2dBackwardInput)
WL_BACKWARD(conv2d_backward_weight, Conv2dBackwardWeight)
WL_BACKWARD(conv2d_backward_bias, Conv2dBackwardBias)
WL_BACKWARD(conv2d_backward, Conv2dBackward)
#undef WL_BACKWARD

}  // namespace warploom::cpu
