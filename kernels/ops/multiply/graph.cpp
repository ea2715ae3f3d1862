// multiply - a times b, of one shape, or b a mask of one channel that multiplies every channel of a.
#include "csrc/core/names.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

template <class Args>
Args multiply_args(Emitter& e, const Node& n) {
  const auto extent = e.extent(n.inputs[0]);
  Args a;
  a.outer = extent.outer, a.C = extent.C, a.inner = extent.inner;
  a.b_channels = e.graph().shape(n.inputs[1])[0];
  return a;
}

class MultiplyOp final : public OpDef {
 public:
  const char* name() const override { return "multiply"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 2 || !n.parameters.empty()) throw GraphError("takes two inputs and no parameters");
    const Shape& a = g.shape(n.inputs[0]);
    Shape mask = a;
    mask[0] = 1;
    const Shape& b = g.shape(n.inputs[1]);
    if (b != a && b != mask)
      throw GraphError("the second input must have the shape of the first, " + to_text(a) + ", or one channel, got " +
                       to_text(b));
    return {a};
  }

  void forward(Emitter& e, const Node& n) const override {
    auto a = multiply_args<MultiplyForward>(e, n);
    a.a = e.read(n.inputs[0]);
    a.b = e.read(n.inputs[1]);
    const bool keeps = e.wants_gradient(n.inputs[1]) || e.buffer_of(n.inputs[0]) == e.buffer_of(n.inputs[1]);
    a.y = keeps ? e.write(n.outputs[0]) : e.write_in_place(n, n.outputs[0], n.inputs[0]);
    e.call(e.table.multiply_forward, "multiply_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    auto a = multiply_args<MultiplyBackward>(e, n);
    a.dy = e.gradient(n.outputs[0]);
    a.b = e.read(n.inputs[1]);
    const bool wants_a = e.wants_gradient(n.inputs[0]), wants_b = e.wants_gradient(n.inputs[1]);
    if (wants_b) {
      a.a = e.read(n.inputs[0]);
      a.db = e.write_gradient(n.inputs[1]);
    }
    if (wants_a) a.da = wants_b ? e.write_gradient(n.inputs[0]) : e.write_gradient_in_place(n.inputs[0], n.outputs[0]);
    if (wants_a || wants_b) e.call(e.table.multiply_backward, "multiply_backward", &n, a);
  }
};
WL_REGISTER_OP(MultiplyOp)

}  // namespace
}  // namespace warploom
