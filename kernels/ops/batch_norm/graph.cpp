// batch_norm - per channel over the batch and the map; attributes: momentum, eps; after fusion also activation, negative_slope.
//
// parameters: weight, bias, running_mean, running_var, each [C]. Training uses the batch's statistics and moves the running ones.
// In a plan for one of several shards (Emitter::place) forward and backward are two steps each, and the shards meet between them.
#include "csrc/core/names.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

template <class Args>
Args norm_args(Emitter& e, const Node& n) {
  const auto extent = e.extent(n.inputs[0]);
  Args a;
  a.outer = extent.outer, a.C = extent.C, a.inner = extent.inner;
  a.activation = parse<Activation>(n.attributes.word("activation", "none"));
  a.negative_slope = static_cast<float>(n.attributes.number("negative_slope", 0.0));
  return a;
}

class BatchNormOp final : public OpDef {
 public:
  const char* name() const override { return "batch_norm"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1) throw GraphError("takes one input, got " + std::to_string(n.inputs.size()));
    if (n.parameters.size() != 4) throw GraphError("takes weight, bias, running_mean and running_var");
    const Shape& x = g.shape(n.inputs[0]);
    if (x.size() != 3 && x.size() != 1) throw GraphError("needs an input of shape C x H x W or C, got " + to_text(x));
    for (const int p : n.parameters)
      if (g.parameters[static_cast<size_t>(p)].shape != Shape{x[0]})
        throw GraphError("its parameters hold " + to_text(g.parameters[static_cast<size_t>(p)].shape) +
                         " values, the input has " + std::to_string(x[0]) + " channels");
    if (n.attributes.number("eps", 1e-5) <= 0.0) throw GraphError("eps must be positive");
    const double momentum = n.attributes.number("momentum", 0.1);
    if (momentum < 0.0 || momentum > 1.0) throw GraphError("momentum must be between 0 and 1");
    return {x};
  }

  void forward(Emitter& e, const Node& n) const override {
    if (e.shards_meet()) {
      BatchNormMoments m;
      const auto extent = e.extent(n.inputs[0]);
      m.outer = extent.outer, m.C = extent.C, m.inner = extent.inner;
      m.x = e.read(n.inputs[0]);
      m.moments = e.scratch(n, "moments", 8 * (2 * m.C + 1));
      e.call(e.table.batch_norm_moments, "batch_norm_moments", &n, m);
      auto a = forward_args<BatchNormApply>(e, n);
      a.moments = e.meet(m.moments);
      if (e.moves_statistics())
        a.running_mean = e.update_parameter(n.parameters[2]), a.running_var = e.update_parameter(n.parameters[3]);
      a.y = e.write(n.outputs[0]);
      e.call(e.table.batch_norm_apply, "batch_norm_apply", &n, a);
      return;
    }
    auto a = forward_args<BatchNormForward>(e, n);
    a.training = e.batch_statistics();
    a.running_mean = e.update_parameter(n.parameters[2]), a.running_var = e.update_parameter(n.parameters[3]);
    a.y = e.training() ? e.write(n.outputs[0]) : e.write_in_place(n, n.outputs[0], n.inputs[0]);
    e.call(e.table.batch_norm_forward, "batch_norm_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    const bool parameters = e.wants_parameter_gradient(n.parameters[0]) || e.wants_parameter_gradient(n.parameters[1]);
    if (e.shards_meet() && e.wants_gradient(n.inputs[0])) {
      auto s = backward_args<BatchNormGradientSums>(e, n);
      write_parameter_gradients(e, n, s);
      s.sums = e.scratch(n, "gradient sums", 8 * 2 * s.C, Category::gradients);
      e.call(e.table.batch_norm_gradient_sums, "batch_norm_gradient_sums", &n, s);
      auto a = backward_args<BatchNormGradientApply>(e, n);
      a.gamma = e.parameter(n.parameters[0]);
      a.sums = e.meet(s.sums);
      a.dx = e.write_gradient_in_place(n.inputs[0], n.outputs[0]);
      e.call(e.table.batch_norm_gradient_apply, "batch_norm_gradient_apply", &n, a);
      return;
    }
    if (!parameters && !e.wants_gradient(n.inputs[0])) return;
    auto a = backward_args<BatchNormBackward>(e, n);
    a.training = e.batch_statistics();
    a.gamma = e.parameter(n.parameters[0]);
    write_parameter_gradients(e, n, a);
    if (e.wants_gradient(n.inputs[0])) a.dx = e.write_gradient_in_place(n.inputs[0], n.outputs[0]);
    e.call(e.table.batch_norm_backward, "batch_norm_backward", &n, a);
  }

  bool backward_reads_output(const Node& n) const override { return n.attributes.word("activation", "none") != "none"; }
  bool takes_activation() const override { return true; }

 private:
  template <class Args>
  static Args forward_args(Emitter& e, const Node& n) {
    auto a = norm_args<Args>(e, n);
    a.momentum = static_cast<float>(n.attributes.number("momentum", 0.1));
    a.eps = static_cast<float>(n.attributes.number("eps", 1e-5));
    a.x = e.read(n.inputs[0]);
    a.gamma = e.parameter(n.parameters[0]), a.beta = e.parameter(n.parameters[1]);
    if (e.training()) {
      a.mean = e.keep(n, "mean", 4 * a.C);
      a.inv_std = e.keep(n, "inv_std", 4 * a.C);
    }
    return a;
  }
  template <class Args>
  static Args backward_args(Emitter& e, const Node& n) {
    auto a = norm_args<Args>(e, n);
    a.dy = e.gradient(n.outputs[0]);
    a.x = e.read(n.inputs[0]);
    if (a.activation != Activation::none) a.y = e.read(n.outputs[0]);
    a.mean = e.kept(n, "mean"), a.inv_std = e.kept(n, "inv_std");
    return a;
  }
  template <class Args>
  static void write_parameter_gradients(Emitter& e, const Node& n, Args& a) {
    if (e.wants_parameter_gradient(n.parameters[0])) a.dgamma = e.write_parameter_gradient(n.parameters[0]);
    if (e.wants_parameter_gradient(n.parameters[1])) a.dbeta = e.write_parameter_gradient(n.parameters[1]);
  }
};
WL_REGISTER_OP(BatchNormOp)

}  // namespace
}  // namespace warploom
