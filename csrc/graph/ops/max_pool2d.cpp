// max_pool2d - the maximum of each window, no padding, floor; attributes: kernel [h, w], stride [h, w].
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

Pool2dShape pool_shape(const Graph& g, const Node& n, int batch) {
  const Shape& x = g.shape(n.inputs[0]);
  const Ints kernel = n.attributes.sizes("kernel", 2, 2), stride = n.attributes.sizes("stride", 2, 2);
  Pool2dShape s;
  s.N = batch;
  s.C = narrow(x[0]), s.H = narrow(x[1]), s.W = narrow(x[2]);
  s.KH = narrow(kernel[0]), s.KW = narrow(kernel[1]);
  s.stride_h = narrow(stride[0]), s.stride_w = narrow(stride[1]);
  s.OH = (s.H - s.KH) / s.stride_h + 1;
  s.OW = (s.W - s.KW) / s.stride_w + 1;
  return s;
}

class MaxPool2dOp final : public OpDef {
 public:
  const char* name() const override { return "max_pool2d"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    const Shape& x = g.shape(n.inputs[0]);
    if (x.size() != 3) throw GraphError("needs an input of shape C x H x W, got " + to_text(x));
    const Ints kernel = n.attributes.sizes("kernel", 2, 2);
    if (x[1] < kernel[0] || x[2] < kernel[1])
      throw GraphError("its " + std::to_string(kernel[0]) + "x" + std::to_string(kernel[1]) +
                       " window does not fit into the input of " + std::to_string(x[1]) + "x" + std::to_string(x[2]));
    const Pool2dShape s = pool_shape(g, n, 1);
    return {{s.C, s.OH, s.OW}};
  }

  void forward(Emitter& e, const Node& n) const override {
    MaxPool2dForward a;
    a.s = pool_shape(e.graph(), n, e.batch());
    a.x = e.read(n.inputs[0]);
    a.y = e.write(n.outputs[0]);
    if (e.training() && e.wants_gradient(n.inputs[0])) a.index = e.keep(n, "index", e.value_bytes(n.outputs[0]));
    e.call(e.table.max_pool2d_forward, "max_pool2d_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    MaxPool2dBackward a;
    a.s = pool_shape(e.graph(), n, e.batch());
    a.dy = e.gradient(n.outputs[0]);
    a.index = e.kept(n, "index");
    a.dx = e.write_gradient(n.inputs[0]);
    e.call(e.table.max_pool2d_backward, "max_pool2d_backward", &n, a);
  }

  Geometry geometry(const Graph& g, const Node& n) const override {
    const Pool2dShape s = pool_shape(g, n, 1);
    Geometry q;
    q.kernel[0] = s.KH, q.kernel[1] = s.KW, q.stride[0] = s.stride_h, q.stride[1] = s.stride_w;
    return q;
  }
};
WL_REGISTER_OP(MaxPool2dOp)

}  // namespace
}  // namespace warploom
