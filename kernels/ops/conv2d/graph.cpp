// conv2d - cross-correlation as in every framework: y[o, i, j] = b[o] + sum over c, u, v of w[o, c, u, v] x[c, i * s + u - p, j *
// s + v - p].
//
// parameters: weight [C_out, C_in / groups, KH, KW] and optionally bias [C_out].
// attributes: stride [h, w], padding [top, bottom, left, right], groups; after fusion also activation, negative_slope, pool,
// upsample.
#include "csrc/core/names.h"
#include "csrc/graph/conv2d.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

// The weight and bias of a convolution with the batch norm after it folded in: computed anew at every run, because the parameters may
// have changed since the last one.
struct Folded {
  In w, bias;
};
Folded fold_batch_norm(Emitter& e, const Node& n, bool transposed) {
  const size_t first = n.parameters.size() - 4;  // gamma, beta, running mean and variance
  const Shape& w = e.graph().parameters[static_cast<size_t>(n.parameters[0])].shape;
  const int64_t O = w[transposed ? 1 : 0], I = w[transposed ? 0 : 1], K = w[2] * w[3];
  BatchNormFold a;
  a.C = O;
  const WeightLayout layout = e.table.weight_layout;
  if (transposed) {  // stands in memory as the weight of a convolution with I outputs
    a.outer = layout == WeightLayout::oihw ? I : layout == WeightLayout::ohwi ? I * K : K;
    a.inner = layout == WeightLayout::oihw ? K : layout == WeightLayout::ohwi ? 1 : I;
  } else {
    a.outer = layout == WeightLayout::hwio ? I * K : 1;
    a.inner = layout == WeightLayout::hwio ? 1 : I * K;
  }
  a.eps = static_cast<float>(n.attributes.number("batch_norm_eps", 1e-5));
  a.w = e.parameter(n.parameters[0]);
  if (first > 1) a.bias = e.parameter(n.parameters[1]);
  a.gamma = e.parameter(n.parameters[first]), a.beta = e.parameter(n.parameters[first + 1]);
  a.running_mean = e.parameter(n.parameters[first + 2]), a.running_var = e.parameter(n.parameters[first + 3]);
  a.w_out = e.scratch(n, "folded weight", (Checked(4) * O * I * K).bytes("a folded weight"), Category::workspace);
  a.b_out = e.scratch(n, "folded bias", 4 * O, Category::workspace);
  e.call(e.table.batch_norm_fold, "batch_norm_fold", &n, a);
  return {In{a.w_out.data, a.w_out.bytes}, In{a.b_out.data, a.b_out.bytes}};
}

class Conv2dOp : public OpDef {
 public:
  const char* name() const override { return "conv2d"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1) throw GraphError("takes one input, got " + std::to_string(n.inputs.size()));
    if (n.parameters.empty() || n.parameters.size() > 2) throw GraphError("takes a weight and optionally a bias");
    const Shape& x = g.shape(n.inputs[0]);
    const Shape& w = g.parameters[static_cast<size_t>(n.parameters[0])].shape;
    if (x.size() != 3) throw GraphError("needs an input of shape C x H x W, got " + to_text(x));
    if (w.size() != 4) throw GraphError("needs a weight of shape C_out x C_in/groups x KH x KW, got " + to_text(w));
    const int64_t groups = n.attributes.size("groups", 1);
    if (x[0] % groups || w[0] % groups)
      throw GraphError("groups=" + std::to_string(groups) + " must divide the " + std::to_string(x[0]) + " input and the " +
                       std::to_string(w[0]) + " output channels");
    const Checked expected = Checked(w[1]) * groups;
    if (!expected.fits(x[0], x[0]))
      throw GraphError("its weight expects " + expected.text() + " input channels, the input has " + std::to_string(x[0]));
    if (n.parameters.size() == 2) {
      const Shape& b = g.parameters[static_cast<size_t>(n.parameters[1])].shape;
      if (b != Shape{w[0]}) throw GraphError("needs a bias of " + std::to_string(w[0]) + " values, got " + to_text(b));
    }
    const Conv2dShape s = conv2d_shape(g, n, 1);
    return {{s.C_out, s.OH, s.OW}};
  }

  void forward(Emitter& e, const Node& n) const override {
    Conv2dForward a = with_shape<Conv2dForward>(conv2d_shape(e.graph(), n, e.batch()), conv2d_fusion(e.graph(), n));
    a.x = e.read(n.inputs[0]);
    if (n.attributes.has("batch_norm_eps")) {
      const Folded f = fold_batch_norm(e, n, false);
      a.w = f.w, a.bias = f.bias;
    } else {
      a.w = e.parameter(n.parameters[0]);
      if (n.parameters.size() > 1) a.bias = e.parameter(n.parameters[1]);
    }
    a.y = e.write(n.outputs[0]);
    const int64_t saved = e.saved_bytes(e.table.conv2d_forward, a);
    if (saved > 0) a.saved = e.keep(n, "saved", saved);
    e.call(e.table.conv2d_forward, "conv2d_forward", &n, a).fusion = a.fusion;
  }

  void backward(Emitter& e, const Node& n) const override {
    const Conv2dShape s = conv2d_shape(e.graph(), n, e.batch());
    const BackwardChoice choice = choose_backward(e.table, s, conv2d_fusion(e.graph(), n));
    if (!choice.why.empty())
      throw UnsupportedError("layer '" + n.name + "': version " + e.table.version + " cannot train it: " + choice.why);
    const bool has_bias = n.parameters.size() > 1;
    const bool want_dx = e.wants_gradient(n.inputs[0]), want_dw = e.wants_parameter_gradient(n.parameters[0]);
    const bool want_db = has_bias && e.wants_parameter_gradient(n.parameters[1]);
    In dy = e.gradient(n.outputs[0]);
    const In saved = e.kept(n, "saved");
    if (choice.separate_activation && !e.slopes_taken(n.outputs[0])) {  // dy becomes the gradient before the activation
      ActivationBackward a;
      a.count = e.value_count(n.outputs[0]);
      a.type = e.type(n.outputs[0]);
      a.kind = conv2d_fusion(n).activation;
      a.negative_slope = conv2d_fusion(n).negative_slope;
      a.dy = dy;
      a.y = e.read(n.outputs[0]);
      a.dx = e.rewrite_gradient(n.outputs[0]);
      e.call(e.table.activation_backward, "activation_backward", &n, a);
      dy = In{a.dx.data, a.dx.bytes};
    }
    In y;
    if (e.table.gradients_read_y && choice.fusion.activation != Activation::none) y = e.read(n.outputs[0]);

    if (choice.combined && want_dw) {
      auto a = with_shape<Conv2dBackward>(s, choice.fusion);
      a.dy = dy;
      a.x = e.read(n.inputs[0]);
      a.w = e.parameter(n.parameters[0]);
      a.y = y;
      a.saved = saved;
      a.dw = e.write_parameter_gradient(n.parameters[0]);
      if (want_db) a.db = e.write_parameter_gradient(n.parameters[1]);
      if (want_dx) a.dx = e.write_gradient(n.inputs[0]);
      e.call(e.table.conv2d_backward, "conv2d_backward", &n, a).fusion = choice.fusion;
      return;
    }
    // Weights first: afterwards x is dead and its memory can hold dx.
    bool db_along = false;
    if (want_dw) {
      auto a = with_shape<Conv2dBackwardWeight>(s, choice.fusion);
      a.with_db = want_db;
      if (want_db && !e.accepts(e.table.conv2d_backward_weight, a)) a.with_db = 0;
      db_along = a.with_db;
      a.dy = dy;
      a.x = e.read(n.inputs[0]);
      a.y = y;
      a.saved = saved;
      a.dw = e.write_parameter_gradient(n.parameters[0]);
      if (db_along) a.db = e.write_parameter_gradient(n.parameters[1]);
      Step& step = e.call(e.table.conv2d_backward_weight, "conv2d_backward_weight", &n, a);
      step.fusion = choice.fusion;
      if (db_along) step.along = "db";
    }
    if (want_db && !db_along) {
      auto a = with_shape<Conv2dBackwardBias>(s, choice.fusion);
      a.dy = dy;
      a.y = y;
      a.saved = saved;
      a.db = e.write_parameter_gradient(n.parameters[1]);
      e.call(e.table.conv2d_backward_bias, "conv2d_backward_bias", &n, a).fusion = choice.fusion;
    }
    if (want_dx) {
      auto a = with_shape<Conv2dBackwardInput>(s, choice.fusion);
      a.dy = dy;
      a.w = e.parameter(n.parameters[0]);
      a.y = y;
      a.saved = saved;
      const Slopes slopes = e.slopes_to_take(n.inputs[0]);
      if (slopes.kind != Activation::none) {
        auto with = a;
        with.x_activation = slopes.kind, with.x_slope = slopes.negative;
        if (e.accepts(e.table.conv2d_backward_input, with)) {
          a = with, a.x = e.read(n.inputs[0]);
          a.dx = e.take_slopes(n.inputs[0]);
        }
      }
      if (!a.dx) a.dx = e.write_gradient(n.inputs[0]);
      Step& step = e.call(e.table.conv2d_backward_input, "conv2d_backward_input", &n, a);
      step.fusion = choice.fusion;
      if (a.x_activation != Activation::none) step.along = std::string("slopes of ") + name_of(a.x_activation);
    }
  }

  Slopes slopes_to_take(const Emitter& e, const Node& n) const override {
    const Fusion f = conv2d_fusion(e.graph(), n);
    if (!choose_backward(e.table, conv2d_shape(e.graph(), n, e.batch()), f).separate_activation) return {};
    return {f.activation, f.negative_slope};
  }

  bool takes_storage(const Graph& g, const Node& n, const OpTable& table, int batch, bool training) const override {
    if (!conv2d_refusal(table, g, n, batch, training).empty()) return false;
    const Fusion f = conv2d_fusion(g, n);
    if (!training || !choose_backward(table, conv2d_shape(g, n, batch), f).separate_activation) return true;
    ActivationBackward a;
    a.kind = f.activation, a.type = f.y_type;
    if (!slope_survives(a.kind, a.type)) return false;
    return !table.activation_backward.why_not || table.activation_backward.why_not(a).empty();
  }

  int64_t macs(const Graph& g, const Node& n) const override {
    const Conv2dShape s = conv2d_shape(g, n, 1);
    return elements(s.OH, s.OW, s.C_out, s.C_in / s.groups, s.KH, s.KW);
  }

  Geometry geometry(const Graph& g, const Node& n) const override {
    const Conv2dShape s = conv2d_shape(g, n, 1);
    Geometry q;
    q.kernel[0] = s.KH, q.kernel[1] = s.KW, q.stride[0] = s.stride_h, q.stride[1] = s.stride_w;
    q.padding[0] = s.pad_top, q.padding[1] = s.pad_left;
    return q;
  }

  bool backward_reads_output(const Node& n) const override { return conv2d_fusion(n).activation != Activation::none; }
};
WL_REGISTER_OP(Conv2dOp)

// linear - y = W x + b on vectors: the 1x1 convolution of a 1x1 map, by the same entries.
//
// parameters: weight [out, in] and optionally bias [out].
class LinearOp final : public Conv2dOp {
 public:
  const char* name() const override { return "linear"; }
  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1) throw GraphError("takes one input, got " + std::to_string(n.inputs.size()));
    if (n.parameters.empty() || n.parameters.size() > 2) throw GraphError("takes a weight and optionally a bias");
    const Shape& x = g.shape(n.inputs[0]);
    const Shape& w = g.parameters[static_cast<size_t>(n.parameters[0])].shape;
    if (x.size() != 1) throw GraphError("needs a vector, got " + to_text(x) + "; flatten it first");
    if (w.size() != 2) throw GraphError("needs a weight of shape out x in, got " + to_text(w));
    if (w[1] != x[0])
      throw GraphError("its weight expects " + std::to_string(w[1]) + " features, the input has " + std::to_string(x[0]));
    if (n.parameters.size() == 2 && g.parameters[static_cast<size_t>(n.parameters[1])].shape != Shape{w[0]})
      throw GraphError("needs a bias of " + std::to_string(w[0]) + " values");
    return {{w[0]}};
  }
  Geometry geometry(const Graph&, const Node&) const override {
    Geometry q;
    q.global = true;
    return q;
  }
};
WL_REGISTER_OP(LinearOp)

// conv_transpose2d - the adjoint of a convolution as a forward pass: a convolution whose input is this one's output, by the same entries
// with their roles exchanged.
//
// parameters: weight [C_in, C_out / groups, KH, KW] (which is the weight of that convolution) and optionally bias [C_out].
// attributes: stride [h, w], padding [h, w], output_padding [h, w], groups; after fusion also activation, negative_slope.
Conv2dShape adjoint_shape(const Graph& g, const Node& n, int batch) {
  const Shape& x = g.shape(n.inputs[0]);
  const Shape& w = g.parameters[static_cast<size_t>(n.parameters[0])].shape;
  const Ints stride = n.attributes.sizes("stride", 2, 1), padding = n.attributes.sizes("padding", 2, 0, 0);
  const Ints extra = n.attributes.sizes("output_padding", 2, 0, 0);
  Conv2dShape s;
  s.N = batch;
  s.groups = narrow(n.attributes.size("groups", 1));
  s.C_out = narrow(w[0]), s.C_in = narrow((Checked(w[1]) * s.groups).size("its number of output channels"));
  s.KH = narrow(w[2]), s.KW = narrow(w[3]);
  s.stride_h = narrow(stride[0]), s.stride_w = narrow(stride[1]);
  s.pad_top = s.pad_bottom = narrow(padding[0]);
  s.pad_left = s.pad_right = narrow(padding[1]);
  s.OH = narrow(x[1]), s.OW = narrow(x[2]);
  const Checked high = (Checked(x[1]) - 1) * stride[0] + w[2] + extra[0],
                wide = (Checked(x[2]) - 1) * stride[1] + w[3] + extra[1];
  const Checked H = high - Checked(2) * padding[0], W = wide - Checked(2) * padding[1];
  if (!(H - 1).fits(0, kLargestSize) || !(W - 1).fits(0, kLargestSize)) {
    if (!high.fits(1, kLargestSize) || !wide.fits(1, kLargestSize))
      throw GraphError("its output of " + high.text() + " x " + wide.text() +
                       " before the padding is too large: a side holds at most " + std::to_string(kLargestSize));
    throw GraphError("its padding leaves no output for an input of " + to_text(x));
  }
  // As the convolution whose gradient this is sees it: its padded input.
  (high * wide * s.C_in).between(1, kMostElements, "the number of elements of its output before the padding");
  s.H = narrow(H.size("its output's height")), s.W = narrow(W.size("its output's width"));
  return s;
}

class ConvTranspose2dOp final : public OpDef {
 public:
  const char* name() const override { return "conv_transpose2d"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1) throw GraphError("takes one input, got " + std::to_string(n.inputs.size()));
    if (n.parameters.empty() || n.parameters.size() > 2) throw GraphError("takes a weight and optionally a bias");
    const Shape& x = g.shape(n.inputs[0]);
    const Shape& w = g.parameters[static_cast<size_t>(n.parameters[0])].shape;
    if (x.size() != 3) throw GraphError("needs an input of shape C x H x W, got " + to_text(x));
    if (w.size() != 4) throw GraphError("needs a weight of shape C_in x C_out/groups x KH x KW, got " + to_text(w));
    const int64_t groups = n.attributes.size("groups", 1);
    if (x[0] % groups)
      throw GraphError("groups=" + std::to_string(groups) + " must divide the " + std::to_string(x[0]) + " input channels");
    if (w[0] != x[0])
      throw GraphError("its weight expects " + std::to_string(w[0]) + " input channels, the input has " + std::to_string(x[0]));
    const Ints stride = n.attributes.sizes("stride", 2, 1), extra = n.attributes.sizes("output_padding", 2, 0, 0);
    for (size_t i = 0; i < 2; i++)
      if (extra[i] >= stride[i]) throw GraphError("output_padding must be at least 0 and less than the stride");
    const Conv2dShape s = adjoint_shape(g, n, 1);
    if (n.parameters.size() == 2) {
      const Shape& b = g.parameters[static_cast<size_t>(n.parameters[1])].shape;
      if (b != Shape{s.C_in}) throw GraphError("needs a bias of " + std::to_string(s.C_in) + " values, got " + to_text(b));
    }
    return {{s.C_in, s.H, s.W}};
  }

  void forward(Emitter& e, const Node& n) const override {
    auto a = with_shape<Conv2dBackwardInput>(adjoint_shape(e.graph(), n, e.batch()), plain_fusion(n));
    In bias;
    if (n.attributes.has("batch_norm_eps")) {
      const Folded f = fold_batch_norm(e, n, true);
      a.w = f.w, bias = f.bias;
    } else {
      a.w = e.parameter(n.parameters[0]);
      if (n.parameters.size() > 1) bias = e.parameter(n.parameters[1]);
    }
    a.dy = e.read(n.inputs[0]);
    a.dx = e.write(n.outputs[0]);
    e.call(e.table.conv2d_backward_input, "conv2d_backward_input", &n, a);
    const Fusion f = conv2d_fusion(n);
    if (!bias && f.activation == Activation::none) return;
    const auto extent = e.extent(n.outputs[0]);
    BiasActivation b;
    b.outer = extent.outer, b.C = extent.C, b.inner = extent.inner;
    b.activation = f.activation, b.negative_slope = f.negative_slope;
    b.bias = bias;
    b.x = In{a.dx.data, a.dx.bytes};
    b.y = a.dx;
    e.call(e.table.bias_activation, "bias_activation", &n, b);
  }

  void backward(Emitter& e, const Node& n) const override {
    const Conv2dShape s = adjoint_shape(e.graph(), n, e.batch());
    const Fusion f = conv2d_fusion(n);
    In dy = e.gradient(n.outputs[0]);
    if (f.activation != Activation::none) {
      ActivationBackward a;
      a.count = s.x_count();
      a.kind = f.activation, a.negative_slope = f.negative_slope;
      a.dy = dy;
      a.y = e.read(n.outputs[0]);
      a.dx = e.rewrite_gradient(n.outputs[0]);
      e.call(e.table.activation_backward, "activation_backward", &n, a);
      dy = In{a.dx.data, a.dx.bytes};
    }
    if (e.wants_parameter_gradient(n.parameters[0])) {
      auto a = with_shape<Conv2dBackwardWeight>(s, plain_fusion(n));
      a.dy = e.read(n.inputs[0]);
      a.x = dy;
      a.dw = e.write_parameter_gradient(n.parameters[0]);
      e.call(e.table.conv2d_backward_weight, "conv2d_backward_weight", &n, a);
    }
    if (n.parameters.size() > 1 && e.wants_parameter_gradient(n.parameters[1])) {
      Conv2dShape sum;  // the sum per channel, as a 1x1 convolution's bias has it
      sum.N = s.N, sum.C_in = sum.C_out = s.C_in, sum.KH = sum.KW = 1;
      sum.H = sum.OH = s.H, sum.W = sum.OW = s.W;
      auto a = with_shape<Conv2dBackwardBias>(sum, Fusion{});
      a.dy = dy;
      a.db = e.write_parameter_gradient(n.parameters[1]);
      e.call(e.table.conv2d_backward_bias, "conv2d_backward_bias", &n, a);
    }
    if (e.wants_gradient(n.inputs[0])) {
      auto a = with_shape<Conv2dForward>(s, plain_fusion(n));
      a.x = dy;
      a.w = e.parameter(n.parameters[0]);
      a.y = e.write_gradient(n.inputs[0]);
      e.call(e.table.conv2d_forward, "conv2d_forward", &n, a);
    }
  }

  int64_t macs(const Graph& g, const Node& n) const override {
    const Conv2dShape s = adjoint_shape(g, n, 1);
    return elements(s.OH, s.OW, s.C_out, s.C_in / s.groups, s.KH, s.KW);
  }
  Geometry geometry(const Graph& g, const Node& n) const override {
    const Conv2dShape s = adjoint_shape(g, n, 1);
    Geometry q;
    q.transposed = true;
    q.kernel[0] = s.KH, q.kernel[1] = s.KW, q.padding[0] = s.pad_top, q.padding[1] = s.pad_left;
    q.upsample[0] = s.stride_h, q.upsample[1] = s.stride_w;
    return q;
  }
  bool backward_reads_output(const Node& n) const override { return conv2d_fusion(n).activation != Activation::none; }
  bool takes_activation() const override { return true; }
};
WL_REGISTER_OP(ConvTranspose2dOp)

}  // namespace
}  // namespace warploom
