// reshape - the same numbers, in NCHW order, under another shape; attribute: shape. Costs nothing where they stand in that order, else
// a conversion of the layout.
#include "csrc/graph/emitter.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

LayoutConvert conversion(int batch, const Shape& s, Layout from, Layout to) {
  LayoutConvert a;
  a.N = batch, a.C = narrow(s[0]), a.H = narrow(s[1]), a.W = narrow(s[2]);
  a.from = from, a.to = to;
  return a;
}

class ReshapeOp final : public OpDef {
 public:
  const char* name() const override { return "reshape"; }

  std::vector<Shape> infer(const Graph& g, const Node& n) const override {
    if (n.inputs.size() != 1 || !n.parameters.empty()) throw GraphError("takes one input and no parameters");
    const auto found = n.attributes.values.find("shape");
    const Ints* shape = found == n.attributes.values.end() ? nullptr : std::get_if<Ints>(&found->second);
    if (!shape || shape->empty()) throw GraphError("needs the attribute shape, a list of sizes");
    for (const int64_t d : *shape)
      if (d < 1) throw GraphError("every size of its shape must be positive, got " + to_text(*shape));
    checked_shape(*shape, "its output");
    const Shape& x = g.shape(n.inputs[0]);
    if (count_of(*shape) != count_of(x))
      throw GraphError("cannot make " + to_text(*shape) + " of " + to_text(x) + ": " + std::to_string(count_of(*shape)) +
                       " elements, not " + std::to_string(count_of(x)));
    return {*shape};
  }

  void forward(Emitter& e, const Node& n) const override {
    const int x = n.inputs[0], y = n.outputs[0];
    if (!convert(e, n, e.read(x), e.graph().shape(x), e.graph().shape(y), [&] { return e.write(y); })) e.alias(y, x);
  }

  void backward(Emitter& e, const Node& n) const override {
    const int x = n.inputs[0], y = n.outputs[0];
    if (!e.wants_gradient(x)) return;
    if (!convert(e, n, e.gradient(y), e.graph().shape(y), e.graph().shape(x), [&] { return e.write_gradient(x); }))
      e.pass_gradient(x, y);
  }

  Geometry geometry(const Graph&, const Node&) const override {
    Geometry q;
    q.global = true;
    return q;
  }

 private:
  // From the order of one shape to that of the other; false if they are the same.
  template <class Write>
  static bool convert(Emitter& e, const Node& n, In from, const Shape& a, const Shape& b, Write&& write) {
    if (a == b) return false;
    const bool first = e.is_nhwc_map(a), second = e.is_nhwc_map(b);
    if (first) {
      auto c = conversion(e.batch(), a, Layout::nhwc, Layout::nchw);
      c.x = from;
      c.y = second ? e.scratch(n, "NCHW", from.bytes) : write();
      e.call(e.table.layout_convert, "layout_convert", &n, c);
      from = In{c.y.data, c.y.bytes};
    }
    if (second) {
      auto c = conversion(e.batch(), b, Layout::nchw, Layout::nhwc);
      c.x = from;
      c.y = write();
      e.call(e.table.layout_convert, "layout_convert", &n, c);
    }
    return first || second;
  }
};
WL_REGISTER_OP(ReshapeOp)

}  // namespace
}  // namespace warploom
