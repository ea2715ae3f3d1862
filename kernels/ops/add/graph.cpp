// add - the sum of two or more inputs of one shape, from left to right; in place where it can be.
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class AddOp final : public OpDef {
 public:
  const char* name() const override { return "add"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() < 2 || !n.parameters.empty()) throw GraphError("takes two or more inputs and no parameters");
    for (const int v : n.inputs)
      if (g.shape(v) != g.shape(n.inputs[0]))
        throw GraphError("inputs must have one shape, got " + to_text(g.shape(n.inputs[0])) + " and " + to_text(g.shape(v)));
    return {g.shape(n.inputs[0])};
  }

  void forward(Emitter& e, const Node& n) const override {
    Add a;
    a.count = e.value_count(n.outputs[0]);
    a.type = e.type(n.outputs[0]);
    a.a = e.read(n.inputs[0]);
    for (size_t k = 1; k < n.inputs.size(); k++) {
      a.b = e.read(n.inputs[k]);
      if (k == 1) {
        bool again = false;  // the first input also comes later: it must stay as it is until then
        for (size_t j = 2; j < n.inputs.size(); j++) again = again || e.buffer_of(n.inputs[j]) == e.buffer_of(n.inputs[0]);
        a.y = again ? e.write(n.outputs[0]) : e.write_in_place(n, n.outputs[0], n.inputs[0]);
      }
      e.call(e.table.add, "add", &n, a);
      a.a = In{a.y.data, a.y.bytes};
    }
  }

  void backward(Emitter& e, const Node& n) const override {
    for (const int v : n.inputs)
      if (e.wants_gradient(v)) e.pass_gradient(v, n.outputs[0]);
  }

  bool takes_storage(const Graph& g, const Node& n, const OpTable& table, int, bool) const override {
    Add a;
    a.type = g.values[static_cast<size_t>(n.outputs[0])].type;
    return stored_alike(g, n) && (!table.add.why_not || table.add.why_not(a).empty());
  }
};
WL_REGISTER_OP(AddOp)

}  // namespace
}  // namespace warploom
