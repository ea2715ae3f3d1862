// gaussian_sample - in training a draw from the Gaussian whose means are the first half of the input's channels and whose logarithms of
// variances the second; elsewhere the means.
//
// The draw depends on the session's seed, the node's name and the number of steps that the optimizer has taken, as dropout's does.
#include "csrc/core/names.h"
#include "csrc/core/random.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class GaussianSampleOp final : public OpDef {
 public:
  const char* name() const override { return "gaussian_sample"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    Shape y = g.shape(n.inputs[0]);
    if (y[0] % 2 != 0)
      throw GraphError("needs means and as many logarithms of variances: an even number of channels, got " + to_text(y));
    y[0] /= 2;
    return {y};
  }

  void forward(Emitter& e, const Node& n) const override {
    auto a = call<GaussianSample>(e, n);
    a.x = e.read(n.inputs[0]);
    a.y = e.write(n.outputs[0]);
    e.call(e.table.gaussian_sample, "gaussian_sample", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    auto a = call<GaussianSampleBackward>(e, n);
    a.x = e.read(n.inputs[0]);
    a.dy = e.gradient(n.outputs[0]);
    a.dx = e.write_gradient(n.inputs[0]);
    e.call(e.table.gaussian_sample_backward, "gaussian_sample_backward", &n, a);
  }

 private:
  template <class Args>
  static Args call(Emitter& e, const Node& n) {
    const Shape& s = e.graph().shape(n.outputs[0]);
    const bool map = s.size() == 3;
    Args a;
    a.N = e.batch();
    a.C = map ? s[0] : count_of(s), a.inner = map ? s[1] * s[2] : 1;
    a.layout = map ? e.table.layout : Layout::nchw;
    a.draws = e.batch_statistics();
    if (!a.draws) return a;
    a.seed = static_cast<int64_t>(e.seed());
    const uint64_t stream = stream_of(n.name);
    a.stream = static_cast<int64_t>((stream ^ stream >> 32) & 0xffffffffu);
    a.step = e.steps_taken();
    return a;
  }
};
WL_REGISTER_OP(GaussianSampleOp)

}  // namespace
}  // namespace warploom
