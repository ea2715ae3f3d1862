// depth_to_space - block x block channels become one channel of a larger map; attributes: block, order ("dcr": block-major, "crd":
// channel-major, PyTorch's pixel_shuffle).
#include "csrc/core/names.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

DepthToSpace shaped(Emitter& e, const Node& n) {
  const Shape& y = e.graph().shape(n.outputs[0]);
  DepthToSpace a;
  a.block = narrow(n.attributes.size("block", 2));
  a.order = parse<DepthOrder>(n.attributes.word("order", "dcr"));
  a.layout = e.table.layout;
  a.N = e.batch(), a.C = y[0], a.H = y[1] / a.block, a.W = y[2] / a.block;
  return a;
}

class DepthToSpaceOp final : public OpDef {
 public:
  const char* name() const override { return "depth_to_space"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    const Shape& x = g.shape(n.inputs[0]);
    if (x.size() != 3) throw GraphError("needs an input of shape C x H x W, got " + to_text(x));
    const int64_t block = n.attributes.size("block", 2);  // at most 2^28: its square fits
    if (x[0] % (block * block))
      throw GraphError("needs a multiple of " + std::to_string(block * block) + " channels, got " + std::to_string(x[0]));
    const std::string order = n.attributes.word("order", "dcr");
    if (order != "dcr" && order != "crd") throw GraphError("unknown order '" + order + "'; expected dcr or crd");
    return {{x[0] / (block * block), (Checked(x[1]) * block).size("its output's height"),
             (Checked(x[2]) * block).size("its output's width")}};
  }

  void forward(Emitter& e, const Node& n) const override {
    auto a = shaped(e, n);
    a.x = e.read(n.inputs[0]);
    a.y = e.write(n.outputs[0]);
    e.call(e.table.depth_to_space, "depth_to_space", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    auto a = shaped(e, n);
    a.inverse = 1;
    a.x = e.gradient(n.outputs[0]);
    a.y = e.write_gradient(n.inputs[0]);
    e.call(e.table.depth_to_space, "depth_to_space", &n, a);
  }

  Geometry geometry(const Graph&, const Node& n) const override {
    Geometry q;
    q.upsample[0] = q.upsample[1] = n.attributes.size("block", 2);
    return q;
  }
};
WL_REGISTER_OP(DepthToSpaceOp)

}  // namespace
}  // namespace warploom
