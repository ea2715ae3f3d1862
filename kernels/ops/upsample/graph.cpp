// upsample - by whole factors, nearest or bilinear (half-pixel centres, PyTorch's align_corners=False); attributes: scale [h, w],
// mode.
#include "csrc/core/names.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

UpsampleShape upsample_shape(const Graph& g, const Node& n, int batch) {
  const Shape& x = g.shape(n.inputs[0]);
  const Ints scale = n.attributes.sizes("scale", 2, 2);
  UpsampleShape s;
  s.N = batch;
  s.C = narrow(x[0]), s.H = narrow(x[1]), s.W = narrow(x[2]);
  s.scale_h = narrow(scale[0]), s.scale_w = narrow(scale[1]);
  return s;
}

UpsampleMode mode_of(const Node& n) { return parse<UpsampleMode>(n.attributes.word("mode", "nearest")); }

class UpsampleOp final : public OpDef {
 public:
  const char* name() const override { return "upsample"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    const Shape& x = g.shape(n.inputs[0]);
    if (x.size() != 3) throw GraphError("needs an input of shape C x H x W, got " + to_text(x));
    const Ints scale = n.attributes.sizes("scale", 2, 2);
    try {
      mode_of(n);
    } catch (const std::invalid_argument& e) {
      throw GraphError(e.what());
    }
    return {
        {x[0], (Checked(x[1]) * scale[0]).size("its output's height"), (Checked(x[2]) * scale[1]).size("its output's width")}};
  }

  void forward(Emitter& e, const Node& n) const override {
    UpsampleForward a;
    a.s = upsample_shape(e.graph(), n, e.batch());
    a.mode = mode_of(n);
    a.x = e.read(n.inputs[0]);
    a.y = e.write(n.outputs[0]);
    e.call(e.table.upsample_forward, "upsample_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    UpsampleBackward a;
    a.s = upsample_shape(e.graph(), n, e.batch());
    a.mode = mode_of(n);
    a.dy = e.gradient(n.outputs[0]);
    a.dx = e.write_gradient(n.inputs[0]);
    e.call(e.table.upsample_backward, "upsample_backward", &n, a);
  }

  Geometry geometry(const Graph& g, const Node& n) const override {
    const UpsampleShape s = upsample_shape(g, n, 1);
    Geometry q;
    q.upsample[0] = s.scale_h, q.upsample[1] = s.scale_w;
    q.bilinear = mode_of(n) == UpsampleMode::bilinear;
    return q;
  }
};
WL_REGISTER_OP(UpsampleOp)

}  // namespace
}  // namespace warploom
