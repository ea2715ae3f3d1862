// winner_take_all - in training each map keeps its largest value alone, and of a channel's maps in the batch those few with the largest
// values (`share` of them, at least one); the identity elsewhere, which costs nothing. attribute: share. A vector is a map of one place
// for each of its elements.
#include <algorithm>
#include <cmath>

#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class WinnerTakeAllOp final : public OpDef {
 public:
  const char* name() const override { return "winner_take_all"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    const double share = share_of(n);
    if (!(share > 0.0 && share <= 1.0)) throw GraphError("share must be above 0 and at most 1");
    const Shape& x = g.shape(n.inputs[0]);
    if (x.size() != 1 && x.size() != 3) throw GraphError("needs a vector or a map C x H x W, got " + to_text(x));
    return {x};
  }

  void forward(Emitter& e, const Node& n) const override {
    if (!e.batch_statistics()) return e.alias(n.outputs[0], n.inputs[0]);
    auto a = call<WinnerTakeAllForward>(e, n);
    a.keep = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(share_of(n) * static_cast<double>(a.N) - 1e-9)));
    a.x = e.read(n.inputs[0]);
    a.y = e.write_in_place(n, n.outputs[0], n.inputs[0]);
    a.winners = e.keep(n, "winners", elements(a.N, a.C) * 4);
    e.call(e.table.winner_take_all_forward, "winner_take_all_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    if (!e.batch_statistics()) return e.pass_gradient(n.inputs[0], n.outputs[0]);
    auto a = call<WinnerTakeAllBackward>(e, n);
    a.dy = e.gradient(n.outputs[0]);
    a.winners = e.kept(n, "winners");
    a.dx = e.write_gradient_in_place(n.inputs[0], n.outputs[0]);
    e.call(e.table.winner_take_all_backward, "winner_take_all_backward", &n, a);
  }

 private:
  static double share_of(const Node& n) { return n.attributes.number("share", 0.05); }

  template <class Args>
  static Args call(Emitter& e, const Node& n) {
    const Shape& s = e.graph().shape(n.inputs[0]);
    Args a;
    a.N = e.batch(), a.C = s[0], a.inner = count_of(s) / s[0];
    a.layout = e.table.layout;
    return a;
  }
};
WL_REGISTER_OP(WinnerTakeAllOp)

}  // namespace
}  // namespace warploom
