// group_norm - per sample over groups of channels and all positions; attributes: groups, eps. With one group: layer normalisation.
//
// parameters: none, or weight [C] and bias [C], one number per channel whatever the group.
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class GroupNormOp final : public OpDef {
 public:
  const char* name() const override { return "group_norm"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1) throw GraphError("takes one input, got " + std::to_string(n.inputs.size()));
    if (n.parameters.size() != 0 && n.parameters.size() != 2) throw GraphError("takes a weight and a bias, or neither");
    const Shape& x = g.shape(n.inputs[0]);
    for (const int p : n.parameters) {
      const Shape& s = g.parameters[static_cast<size_t>(p)].shape;
      if (s != Shape{x[0]})
        throw GraphError("needs " + std::to_string(x[0]) + " values in each parameter, one per channel, got " + to_text(s));
    }
    const int64_t groups = n.attributes.integer("groups", 1);
    if (groups < 1 || x[0] % groups)
      throw GraphError("groups=" + std::to_string(groups) + " must divide the " + std::to_string(x[0]) + " channels");
    if (n.attributes.number("eps", 1e-5) < 0.0) throw GraphError("eps must not be negative");
    return {x};
  }

  void forward(Emitter& e, const Node& n) const override {
    GroupNormForward a;
    fill(e, n, a);
    a.eps = static_cast<float>(n.attributes.number("eps", 1e-5));
    a.x = e.read(n.inputs[0]);
    if (!n.parameters.empty()) a.gamma = e.parameter(n.parameters[0]), a.beta = e.parameter(n.parameters[1]);
    a.y = e.write(n.outputs[0]);
    if (e.training()) {
      a.mean = e.keep(n, "mean", 4 * a.N * a.groups);
      a.inv_std = e.keep(n, "inv_std", 4 * a.N * a.groups);
    }
    e.call(e.table.group_norm_forward, "group_norm_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    const bool affine = !n.parameters.empty();
    const bool want_dx = e.wants_gradient(n.inputs[0]);
    const bool want_gain = affine && e.wants_parameter_gradient(n.parameters[0]);
    const bool want_offset = affine && e.wants_parameter_gradient(n.parameters[1]);
    if (!want_dx && !want_gain && !want_offset) return;
    GroupNormBackward a;
    fill(e, n, a);
    a.dy = e.gradient(n.outputs[0]);
    a.x = e.read(n.inputs[0]);
    if (affine) a.gamma = e.parameter(n.parameters[0]);
    a.mean = e.kept(n, "mean"), a.inv_std = e.kept(n, "inv_std");
    if (want_gain) a.dgamma = e.write_parameter_gradient(n.parameters[0]);
    if (want_offset) a.dbeta = e.write_parameter_gradient(n.parameters[1]);
    if (want_dx) a.dx = e.write_gradient(n.inputs[0]);
    e.call(e.table.group_norm_backward, "group_norm_backward", &n, a);
  }

  Geometry geometry(const Graph&, const Node&) const override {
    Geometry q;
    q.global = true;
    return q;
  }

 private:
  template <class Args>
  static void fill(Emitter& e, const Node& n, Args& a) {
    const Shape& s = e.graph().shape(n.inputs[0]);
    a.N = e.batch(), a.C = s[0], a.inner = count_of(s) / s[0];
    a.groups = n.attributes.integer("groups", 1);
    a.layout = s.size() == 3 ? e.table.layout : Layout::nchw;
  }
};
WL_REGISTER_OP(GroupNormOp)

}  // namespace
}  // namespace warploom
