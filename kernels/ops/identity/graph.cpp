// identity - the same value under a name of its own, such as the latent; costs nothing.
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class IdentityOp final : public OpDef {
 public:
  const char* name() const override { return "identity"; }
  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    return {g.shape(n.inputs[0])};
  }
  void forward(Emitter& e, const Node& n) const override { e.alias(n.outputs[0], n.inputs[0]); }
  void backward(Emitter& e, const Node& n) const override {
    if (e.wants_gradient(n.inputs[0])) e.pass_gradient(n.inputs[0], n.outputs[0]);
  }
  bool takes_storage(const Graph& g, const Node& n, const OpTable&, int, bool) const override { return stored_alike(g, n); }
};
WL_REGISTER_OP(IdentityOp)

}  // namespace
}  // namespace warploom
