// upsample_conv2d - a 3x3 convolution of a nearest upsample by 2, as four 2x2 convolutions of the small map, one for each parity of the
// output's row and column. Made by the pass fold_upsamples; parameters and attributes are those of the conv2d it comes from.
#include <array>

#include "csrc/graph/conv2d.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class UpsampleConv2dOp final : public OpDef {
 public:
  const char* name() const override { return "upsample_conv2d"; }

  std::vector<Shape> infer(const Graph&, const Node&) const override {
    throw GraphError("comes from a pass; write an upsample and a conv2d");
  }

  void forward(Emitter& e, const Node& n) const override {
    const Handle weights = phase_weights(e, n), maps = untag(e.scratch(n, "phases", e.value_bytes(n.outputs[0])).data);
    const Fusion fusion = conv2d_fusion(n);
    bool activated = true;
    for (int p = 0; p < 4; p++) {
      Conv2dForward a;
      a.s = phase_shape(e, n, p);
      a.fusion = plain_fusion(n);
      a.fusion.activation = fusion.activation;
      a.fusion.negative_slope = fusion.negative_slope;
      if (activated && !e.accepts(e.table.conv2d_forward, a)) activated = false;
      if (!activated) a.fusion = plain_fusion(n);
      a.x = e.read(n.inputs[0]);
      a.w = e.in(part(e, n, weights, "weights", p, 4 * a.s.w_count()));
      if (n.parameters.size() > 1) a.bias = e.parameter(n.parameters[1]);
      a.y = e.out(part(e, n, maps, "phase", p, 4 * a.s.y_count()));
      e.call(e.table.conv2d_forward, "conv2d_forward", &n, a).fusion = a.fusion;
    }
    DepthToSpace d = interleave(e, n);
    d.x = e.in(maps);
    d.y = e.write(n.outputs[0]);
    e.call(e.table.depth_to_space, "depth_to_space", &n, d);
    if (activated || fusion.activation == Activation::none) return;
    ActivationForward a;
    a.count = d.y.bytes / 4;
    a.kind = fusion.activation, a.negative_slope = fusion.negative_slope;
    a.x = In{d.y.data, d.y.bytes};
    a.y = d.y;
    e.call(e.table.activation_forward, "activation_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    const Shape& y = e.graph().shape(n.outputs[0]);
    const int64_t bytes = e.value_bytes(n.outputs[0]);
    const Fusion fusion = conv2d_fusion(n);
    In dy = e.gradient(n.outputs[0]);
    if (fusion.activation != Activation::none) {
      ActivationBackward a;
      a.count = bytes / 4;
      a.kind = fusion.activation, a.negative_slope = fusion.negative_slope;
      a.dy = dy;
      a.y = e.read(n.outputs[0]);
      a.dx = e.rewrite_gradient(n.outputs[0]);
      e.call(e.table.activation_backward, "activation_backward", &n, a);
      dy = In{a.dx.data, a.dx.bytes};
    }
    if (n.parameters.size() > 1 && e.wants_parameter_gradient(n.parameters[1])) {
      Conv2dBackwardBias a;  // the sum per channel, as a 1x1 convolution's bias has it
      a.s.N = e.batch(), a.s.C_in = a.s.C_out = narrow(y[0]), a.s.KH = a.s.KW = 1;
      a.s.H = a.s.OH = narrow(y[1]), a.s.W = a.s.OW = narrow(y[2]);
      a.dy = dy;
      a.db = e.write_parameter_gradient(n.parameters[1]);
      e.call(e.table.conv2d_backward_bias, "conv2d_backward_bias", &n, a);
    }
    const bool want_dw = e.wants_parameter_gradient(n.parameters[0]), want_dx = e.wants_gradient(n.inputs[0]);
    if (!want_dw && !want_dx) return;
    DepthToSpace d = interleave(e, n);
    d.inverse = 1;
    d.x = dy;
    const Handle maps = untag(e.scratch(n, "phases.grad", bytes, Category::gradients).data);
    d.y = e.out(maps);
    e.call(e.table.depth_to_space, "depth_to_space", &n, d);
    std::array<Handle, 4> phases;
    for (int p = 0; p < 4; p++) phases[static_cast<size_t>(p)] = part(e, n, maps, "phase.grad", p, bytes / 4);

    if (want_dw) {
      UpsampleWeights w = folding(e, n);
      const int64_t each = 16 * w.C_out * w.C_in;
      const Handle gradients = untag(e.scratch(n, "phase weights.grad", 4 * each, Category::gradients).data);
      for (int p = 0; p < 4; p++) {
        Conv2dBackwardWeight a;
        a.s = phase_shape(e, n, p);
        a.fusion = plain_fusion(n);
        a.dy = e.in(phases[static_cast<size_t>(p)]);
        a.x = e.read(n.inputs[0]);
        a.dw = e.out(part(e, n, gradients, "weights.grad", p, each));
        e.call(e.table.conv2d_backward_weight, "conv2d_backward_weight", &n, a);
      }
      w.adjoint = 1;
      w.x = e.in(gradients);
      w.y = e.write_parameter_gradient(n.parameters[0]);
      e.call(e.table.upsample_weights, "upsample_weights", &n, w);
    }
    if (want_dx) {
      const Handle weights = phase_weights(e, n);
      const Out dx = e.write_gradient(n.inputs[0]);
      for (int p = 0; p < 4; p++) {
        Conv2dBackwardInput a;
        a.s = phase_shape(e, n, p);
        a.fusion = plain_fusion(n);
        a.dy = e.in(phases[static_cast<size_t>(p)]);
        a.w = e.in(part(e, n, weights, "weights", p, 4 * a.s.w_count()));
        a.dx = p == 0 ? dx : e.scratch(n, "phase.dx", dx.bytes, Category::gradients);
        e.call(e.table.conv2d_backward_input, "conv2d_backward_input", &n, a);
        if (p == 0) continue;
        Add sum;
        sum.count = dx.bytes / 4;
        sum.a = In{dx.data, dx.bytes}, sum.b = In{a.dx.data, a.dx.bytes};
        sum.y = dx;
        e.call(e.table.add, "add", &n, sum);
      }
    }
  }

  int64_t macs(const Graph& g, const Node& n) const override {
    const Shape& y = g.shape(n.outputs[0]);
    return elements(count_of(y), g.shape(n.inputs[0])[0], 4);
  }
  bool backward_reads_output(const Node& n) const override { return conv2d_fusion(n).activation != Activation::none; }

 private:
  // Phase p = 2 * (parity of the row) + parity of the column: where its 2x2 window begins is a matter of the padding.
  static Conv2dShape phase_shape(Emitter& e, const Node& n, int p) {
    const Shape &x = e.graph().shape(n.inputs[0]), &y = e.graph().shape(n.outputs[0]);
    Conv2dShape s;
    s.N = e.batch(), s.C_in = narrow(x[0]), s.C_out = narrow(y[0]);
    s.H = s.OH = narrow(x[1]), s.W = s.OW = narrow(x[2]);
    s.KH = s.KW = 2;
    s.pad_top = p / 2 == 0, s.pad_bottom = p / 2 == 1;
    s.pad_left = p % 2 == 0, s.pad_right = p % 2 == 1;
    return s;
  }
  static UpsampleWeights folding(Emitter& e, const Node& n) {
    const Shape& w = e.graph().parameters[static_cast<size_t>(n.parameters[0])].shape;
    UpsampleWeights a;
    a.C_out = w[0], a.C_in = w[1];
    a.layout = e.table.weight_layout;
    return a;
  }
  static Handle phase_weights(Emitter& e, const Node& n) {
    UpsampleWeights a = folding(e, n);
    a.x = e.parameter(n.parameters[0]);
    a.y = e.scratch(n, "phase weights", 64 * a.C_out * a.C_in, Category::workspace);
    e.call(e.table.upsample_weights, "upsample_weights", &n, a);
    return untag(a.y.data);
  }
  static DepthToSpace interleave(Emitter& e, const Node& n) {
    const Shape &x = e.graph().shape(n.inputs[0]), &y = e.graph().shape(n.outputs[0]);
    DepthToSpace d;
    d.N = e.batch(), d.C = y[0], d.H = x[1], d.W = x[2];
    d.order = DepthOrder::phases;
    d.layout = e.table.layout;
    return d;
  }
  static Handle part(Emitter& e, const Node& n, Handle whole, const char* name, int p, int64_t bytes) {
    return e.slice(whole, n.name + "." + name + " " + std::to_string(p), p * bytes, bytes);
  }
};
WL_REGISTER_OP(UpsampleConv2dOp)

}  // namespace
}  // namespace warploom
