// activation - elementwise, in place where it can be; attributes: kind, negative_slope (of leaky_relu; elu's alpha). Backward from the
// output, or from the input where the output does not tell: then the input stays, and the output is free for others.
#include "csrc/core/names.h"
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

class ActivationOp final : public OpDef {
 public:
  const char* name() const override { return "activation"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    try {
      parse<Activation>(n.attributes.word("kind", "relu"));
    } catch (const std::invalid_argument& e) {
      throw GraphError(e.what());
    }
    if (n.attributes.number("negative_slope", 0.0) < 0.0) throw GraphError("negative_slope must not be negative");
    return {g.shape(n.inputs[0])};
  }

  void forward(Emitter& e, const Node& n) const override {
    ActivationForward a;
    fill(e, n, a);
    a.x = e.read(n.inputs[0]);
    const bool keep_input = gradient_needs_input(a.kind) && e.training() && e.wants_gradient(n.inputs[0]);
    a.y = keep_input ? e.write(n.outputs[0]) : e.write_in_place(n, n.outputs[0], n.inputs[0]);
    e.call(e.table.activation_forward, "activation_forward", &n, a);
  }

  void backward(Emitter& e, const Node& n) const override {
    if (!e.wants_gradient(n.inputs[0])) return;
    if (e.slopes_taken(n.outputs[0])) return e.pass_gradient(n.inputs[0], n.outputs[0]);
    ActivationBackward a;
    fill(e, n, a);
    a.dy = e.gradient(n.outputs[0]);
    if (gradient_needs_input(a.kind))
      a.x = e.read(n.inputs[0]);
    else
      a.y = e.read(n.outputs[0]);
    a.dx = e.write_gradient_in_place(n.inputs[0], n.outputs[0]);
    e.call(e.table.activation_backward, "activation_backward", &n, a);
  }

  bool takes_storage(const Graph& g, const Node& n, const OpTable& table, int, bool training) const override {
    ActivationForward forward;
    ActivationBackward backward;
    forward.kind = backward.kind = kind_of(n);
    forward.type = backward.type = g.values[static_cast<size_t>(n.outputs[0])].type;
    const auto takes = [](const auto& entry, const auto& a) { return !entry.why_not || entry.why_not(a).empty(); };
    return stored_alike(g, n) && takes(table.activation_forward, forward) &&
           (!training || (slope_survives(forward.kind, forward.type) && takes(table.activation_backward, backward)));
  }

  Slopes slopes_to_take(const Emitter&, const Node& n) const override {
    const Activation kind = kind_of(n);
    if (kind != Activation::relu && kind != Activation::leaky_relu) return {};
    return {kind, static_cast<float>(n.attributes.number("negative_slope", 0.0))};
  }

  bool backward_reads_output(const Node& n) const override { return !gradient_needs_input(kind_of(n)); }

 private:
  static Activation kind_of(const Node& n) { return parse<Activation>(n.attributes.word("kind", "relu")); }
  template <class Args>
  static void fill(Emitter& e, const Node& n, Args& a) {
    a.count = e.value_count(n.inputs[0]);
    a.type = e.type(n.inputs[0]);
    a.kind = kind_of(n);
    a.negative_slope = static_cast<float>(n.attributes.number("negative_slope", 0.0));
  }
};
WL_REGISTER_OP(ActivationOp)

}  // namespace
}  // namespace warploom
