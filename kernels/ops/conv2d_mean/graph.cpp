// conv2d_mean - a 1x1 convolution, its activation and an average pool as one step. Made by the pass fold_avg_pools at inference, where the
// version takes it; parameters and attributes are those of the conv2d, and the pool's as mean_kernel and mean_stride.
#include "csrc/graph/conv2d.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class Conv2dMeanOp final : public OpDef {
 public:
  const char* name() const override { return "conv2d_mean"; }

  std::vector<Shape> infer(const Graph&, const Node&) const override {
    throw GraphError("comes from a pass; write a conv2d and an avg_pool2d");
  }

  void forward(Emitter& e, const Node& n) const override {
    Conv2dMeanForward a = conv2d_mean(e.graph(), n, e.batch());
    a.x = e.read(n.inputs[0]);
    a.w = e.parameter(n.parameters[0]);
    if (n.parameters.size() > 1) a.bias = e.parameter(n.parameters[1]);
    a.y = e.write(n.outputs[0]);
    e.call(e.table.conv2d_mean_forward, "conv2d_mean_forward", &n, a).fusion = a.fusion;
  }

  void backward(Emitter&, const Node& n) const override {
    throw GraphError("layer '" + n.name + "': its pass is for inference only; please report this");
  }
};
WL_REGISTER_OP(Conv2dMeanOp)

}  // namespace
}  // namespace warploom
