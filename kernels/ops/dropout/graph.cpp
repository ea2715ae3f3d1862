// dropout - in training each element (whole_channels: each channel of a map) is 0 with probability p, else divided by 1 - p; the
// identity elsewhere, which costs nothing. attributes: p, whole_channels.
//
// What falls out depends on the session's seed, the node's name and the number of steps that the optimizer has taken: a run that goes
// on from a checkpoint draws what it would have drawn.
#include "csrc/core/random.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class DropoutOp final : public OpDef {
 public:
  const char* name() const override { return "dropout"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    const double p = n.attributes.number("p", 0.5);
    if (!(p >= 0.0 && p <= 1.0)) throw GraphError("p must lie between 0 and 1");
    const Shape& x = g.shape(n.inputs[0]);
    if (n.attributes.integer("whole_channels", 0) && x.size() != 3)
      throw GraphError("needs an input of shape C x H x W to drop whole channels, got " + to_text(x));
    return {x};
  }

  void forward(Emitter& e, const Node& n) const override {
    if (!draws(e, n)) return e.alias(n.outputs[0], n.inputs[0]);
    Dropout a = call(e, n);
    a.x = e.read(n.inputs[0]);
    a.y = e.write_in_place(n, n.outputs[0], n.inputs[0]);
    e.call(e.table.dropout, "dropout", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    if (!draws(e, n)) return e.pass_gradient(n.inputs[0], n.outputs[0]);
    Dropout a = call(e, n);
    a.x = e.gradient(n.outputs[0]);
    a.y = e.write_gradient_in_place(n.inputs[0], n.outputs[0]);
    e.call(e.table.dropout, "dropout", &n, a);
  }

 private:
  static bool draws(const Emitter& e, const Node& n) { return e.batch_statistics() && n.attributes.number("p", 0.5) > 0.0; }

  static Dropout call(Emitter& e, const Node& n) {
    const Shape& s = e.graph().shape(n.inputs[0]);
    const bool map = s.size() == 3;
    Dropout a;
    a.N = e.batch();
    a.C = map ? s[0] : 1, a.inner = map ? s[1] * s[2] : count_of(s);
    a.layout = e.table.layout;
    a.keep = static_cast<float>(1.0 - n.attributes.number("p", 0.5));
    a.whole_channels = n.attributes.integer("whole_channels", 0) != 0;
    a.seed = static_cast<int64_t>(e.seed());
    const uint64_t stream = stream_of(n.name);
    a.stream = static_cast<int64_t>((stream ^ stream >> 32) & 0xffffffffu);
    a.step = e.steps_taken();
    return a;
  }
};
WL_REGISTER_OP(DropoutOp)

}  // namespace
}  // namespace warploom
