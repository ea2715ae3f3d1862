#include "csrc/graph/conv2d.h"

#include "csrc/core/names.h"

namespace warploom {

Fusion conv2d_fusion(const Node& node) {
  Fusion f;
  f.activation = parse<Activation>(node.attributes.word("activation", "none"));
  f.negative_slope = static_cast<float>(node.attributes.number("negative_slope", 0.0));
  f.pool = static_cast<int>(node.attributes.integer("pool", 1));
  f.upsample = static_cast<int>(node.attributes.integer("upsample", 1));
  f.precision = parse<Precision>(node.attributes.word("precision", "fp32"));
  return f;
}

Fusion plain_fusion(const Node& node) {
  Fusion f;
  f.precision = conv2d_fusion(node).precision;
  return f;
}

Conv2dShape conv2d_shape(const Graph& graph, const Node& node, int batch) {
  const Shape& x = graph.shape(node.inputs[0]);
  const Shape& w = graph.parameters[static_cast<size_t>(node.parameters[0])].shape;
  const Ints stride = node.attributes.list("stride", 2, 1), padding = node.attributes.list("padding", 4, 0);
  const int up = conv2d_fusion(node).upsample;
  Conv2dShape s;
  s.N = batch;
  const bool map = x.size() == 3;  // else a linear layer: a 1x1 convolution of a 1x1 map
  s.C_in = static_cast<int>(x[0]), s.H = map ? static_cast<int>(x[1]) * up : 1, s.W = map ? static_cast<int>(x[2]) * up : 1;
  s.C_out = static_cast<int>(w[0]), s.KH = map ? static_cast<int>(w[2]) : 1, s.KW = map ? static_cast<int>(w[3]) : 1;
  s.stride_h = static_cast<int>(stride[0]), s.stride_w = static_cast<int>(stride[1]);
  s.pad_top = static_cast<int>(padding[0]), s.pad_bottom = static_cast<int>(padding[1]);
  s.pad_left = static_cast<int>(padding[2]), s.pad_right = static_cast<int>(padding[3]);
  s.groups = static_cast<int>(node.attributes.integer("groups", 1));
  s.OH = (s.H + s.pad_top + s.pad_bottom - s.KH) / s.stride_h + 1;
  s.OW = (s.W + s.pad_left + s.pad_right - s.KW) / s.stride_w + 1;
  return s;
}

namespace {

template <class Args>
std::string ask(const OpTable& table, const Entry<Args>& e, const Conv2dShape& s, const Fusion& f) {
  if (!e.run) return std::string("version ") + table.version + " has no such entry";
  return e.why_not ? e.why_not(with_shape<Args>(s, f)) : "";
}

}  // namespace

BackwardChoice choose_backward(const OpTable& table, const Conv2dShape& s, const Fusion& fusion) {
  if (gradient_needs_input(fusion.activation))
    return {false, false, fusion,
            "the gradient of " + std::string(name_of(fusion.activation)) +
                " needs its input, which a fused step does not keep; it runs as a step of its own"};
  Fusion plain = fusion;
  plain.activation = Activation::none;
  plain.negative_slope = 0.0f;
  std::string first;
  for (const bool separate : {false, true}) {
    if (separate && (fusion.activation == Activation::none || fusion.pool > 1))
      break;  // y is pooled: its signs are not the map's
    const Fusion& f = separate ? plain : fusion;
    if (ask(table, table.conv2d_backward, s, f).empty()) return {true, separate, f, ""};
    std::string why = ask(table, table.conv2d_backward_input, s, f);
    if (why.empty()) why = ask(table, table.conv2d_backward_weight, s, f);
    if (why.empty()) why = ask(table, table.conv2d_backward_bias, s, f);
    if (why.empty()) return {false, separate, f, ""};
    if (first.empty()) first = why;
  }
  return {false, false, fusion, first};
}

std::string conv2d_refusal(const OpTable& table, const Graph& graph, const Node& node, int batch, bool training) {
  const Conv2dShape s = conv2d_shape(graph, node, batch);
  const Fusion f = conv2d_fusion(node);
  const std::string why = ask(table, table.conv2d_forward, s, f);
  return why.empty() && training ? choose_backward(table, s, f).why : why;
}

}  // namespace warploom
