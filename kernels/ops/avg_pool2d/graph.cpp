// avg_pool2d - the mean of each window, no padding, floor; attributes: kernel [h, w], stride [h, w].
#include "csrc/graph/emitter.h"
#include "csrc/graph/pooling.h"

namespace warploom {
namespace {

class AvgPool2dOp final : public PoolOp {
 public:
  const char* name() const override { return "avg_pool2d"; }

  void forward(Emitter& e, const Node& n) const override {
    AvgPool2dForward a;
    a.s = shape(e.graph(), n, e.batch());
    a.layout = e.table.layout;
    a.x = e.read(n.inputs[0]);
    a.y = e.write(n.outputs[0]);
    e.call(e.table.avg_pool2d_forward, "avg_pool2d_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    AvgPool2dBackward a;
    a.s = shape(e.graph(), n, e.batch());
    a.layout = e.table.layout;
    a.dy = e.gradient(n.outputs[0]);
    a.dx = e.write_gradient(n.inputs[0]);
    e.call(e.table.avg_pool2d_backward, "avg_pool2d_backward", &n, a);
  }
};
WL_REGISTER_OP(AvgPool2dOp)

}  // namespace
}  // namespace warploom
