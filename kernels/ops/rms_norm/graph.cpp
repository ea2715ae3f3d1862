// rms_norm - each sample divided by the root of the mean of its squares, over all axes but the batch; attribute: eps.
#include "csrc/core/names.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class RmsNormOp final : public OpDef {
 public:
  const char* name() const override { return "rms_norm"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    if (n.attributes.number("eps", 1e-6) < 0.0) throw GraphError("eps must not be negative");
    return {g.shape(n.inputs[0])};
  }

  void forward(Emitter& e, const Node& n) const override {
    RmsNormForward a;
    a.rows = e.batch(), a.cols = count_of(e.graph().shape(n.inputs[0]));
    a.eps = static_cast<float>(n.attributes.number("eps", 1e-6));
    a.x = e.read(n.inputs[0]);
    a.y = e.write(n.outputs[0]);
    if (e.training()) a.inv_rms = e.keep(n, "inv_rms", 4 * a.rows);
    e.call(e.table.rms_norm_forward, "rms_norm_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    RmsNormBackward a;
    a.rows = e.batch(), a.cols = count_of(e.graph().shape(n.inputs[0]));
    a.dy = e.gradient(n.outputs[0]);
    a.x = e.read(n.inputs[0]);
    a.inv_rms = e.kept(n, "inv_rms");
    a.dx = e.write_gradient(n.inputs[0]);
    e.call(e.table.rms_norm_backward, "rms_norm_backward", &n, a);
  }

  Geometry geometry(const Graph&, const Node&) const override {
    Geometry q;
    q.global = true;
    return q;
  }
};
WL_REGISTER_OP(RmsNormOp)

}  // namespace
}  // namespace warploom
