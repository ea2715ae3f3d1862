// max_pool2d - the maximum of each window, no padding, floor; attributes: kernel [h, w], stride [h, w].
#include "csrc/graph/emitter.h"
#include "csrc/graph/pooling.h"

namespace warploom {
namespace {

class MaxPool2dOp final : public PoolOp {
 public:
  const char* name() const override { return "max_pool2d"; }

  void forward(Emitter& e, const Node& n) const override {
    MaxPool2dForward a;
    a.s = shape(e.graph(), n, e.batch());
    a.x = e.read(n.inputs[0]);
    a.y = e.write(n.outputs[0]);
    if (e.training() && e.wants_gradient(n.inputs[0])) a.index = e.keep(n, "index", e.value_bytes(n.outputs[0]));
    e.call(e.table.max_pool2d_forward, "max_pool2d_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    MaxPool2dBackward a;
    a.s = shape(e.graph(), n, e.batch());
    a.dy = e.gradient(n.outputs[0]);
    a.index = e.kept(n, "index");
    a.dx = e.write_gradient(n.inputs[0]);
    e.call(e.table.max_pool2d_backward, "max_pool2d_backward", &n, a);
  }
};
WL_REGISTER_OP(MaxPool2dOp)

}  // namespace
}  // namespace warploom
