// concat - 2 to 8 inputs, one after the other along the channels (the first axis after the batch).
//
// Where one row holds it all (a batch of one in NCHW, vectors of one sample) nothing is copied: the inputs' buffers lie in the output's.
#include "csrc/core/names.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

template <class Args>
Args concat_args(Emitter& e, const Node& n) {
  Args a;
  a.count = static_cast<int>(n.inputs.size());
  for (int k = 0; k < a.count; k++) {
    const auto extent = e.extent(n.inputs[static_cast<size_t>(k)]);
    a.rows = extent.outer;
    a.cols[k] = extent.C * extent.inner;
  }
  return a;
}

class ConcatOp final : public OpDef {
 public:
  const char* name() const override { return "concat"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() < 2 || n.inputs.size() > kMaxConcat || !n.parameters.empty())
      throw GraphError("takes 2 to " + std::to_string(kMaxConcat) + " inputs and no parameters, got " +
                       std::to_string(n.inputs.size()) + " inputs");
    Shape y = g.shape(n.inputs[0]);
    for (size_t k = 1; k < n.inputs.size(); k++) {
      const Shape& x = g.shape(n.inputs[k]);
      bool same = x.size() == y.size();
      for (size_t i = 1; same && i < x.size(); i++) same = x[i] == y[i];
      if (!same)
        throw GraphError("inputs must agree in all but the channels, got " + to_text(g.shape(n.inputs[0])) + " and " +
                         to_text(x));
      y[0] = (Checked(y[0]) + x[0]).size("its number of output channels");
    }
    return {y};
  }

  void forward(Emitter& e, const Node& n) const override {
    auto a = concat_args<ConcatForward>(e, n);
    if (a.rows == 1 && e.join_in_place(n.outputs[0], n.inputs)) return;
    for (int k = 0; k < a.count; k++) a.x[k] = e.read(n.inputs[static_cast<size_t>(k)]);
    a.y = e.write(n.outputs[0]);
    e.call(e.table.concat_forward, "concat_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    auto a = concat_args<ConcatBackward>(e, n);
    bool any = false;
    int64_t offset = 0;
    for (int k = 0; k < a.count; k++) {
      const int v = n.inputs[static_cast<size_t>(k)];
      const int64_t here = offset;
      offset += 4 * a.cols[k];
      if (!e.wants_gradient(v)) continue;
      if (a.rows == 1 && e.take_gradient_slice(v, n.outputs[0], here)) continue;
      a.dx[k] = e.write_gradient(v);
      any = true;
    }
    if (!any) return;
    a.dy = e.gradient(n.outputs[0]);
    e.call(e.table.concat_backward, "concat_backward", &n, a);
  }
};
WL_REGISTER_OP(ConcatOp)

}  // namespace
}  // namespace warploom
