#include "csrc/graph/conv2d.h"

#include "csrc/core/names.h"

namespace warploom {

Fusion conv2d_fusion(const Node& node) {
  Fusion f;
  f.activation = parse<Activation>(node.attributes.word("activation", "none"));
  f.negative_slope = static_cast<float>(node.attributes.number("negative_slope", 0.0));
  f.pool = narrow(node.attributes.size("pool", 1));
  f.upsample = narrow(node.attributes.size("upsample", 1));
  f.precision = parse<Precision>(node.attributes.word("precision", "fp32"));
  return f;
}

Fusion conv2d_fusion(const Graph& graph, const Node& node) {
  Fusion f = conv2d_fusion(node);
  f.x_type = graph.values[static_cast<size_t>(node.inputs[0])].type;
  f.y_type = graph.values[static_cast<size_t>(node.outputs[0])].type;
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
  const Ints stride = node.attributes.sizes("stride", 2, 1), padding = node.attributes.sizes("padding", 4, 0, 0);
  const int up = conv2d_fusion(node).upsample;
  const auto upsampled = [&](int64_t size) { return narrow((Checked(size) * up).size("its input's height or width")); };
  Conv2dShape s;
  s.N = batch;
  const bool map = x.size() == 3;  // else a linear layer: a 1x1 convolution of a 1x1 map
  s.C_in = narrow(x[0]), s.H = map ? upsampled(x[1]) : 1, s.W = map ? upsampled(x[2]) : 1;
  s.C_out = narrow(w[0]), s.KH = map ? narrow(w[2]) : 1, s.KW = map ? narrow(w[3]) : 1;
  s.stride_h = narrow(stride[0]), s.stride_w = narrow(stride[1]);
  s.pad_top = narrow(padding[0]), s.pad_bottom = narrow(padding[1]);
  s.pad_left = narrow(padding[2]), s.pad_right = narrow(padding[3]);
  s.groups = narrow(node.attributes.size("groups", 1));
  // Kernels keep rows of the padded input, and look at places in it with 32 bits.
  const int64_t high = (Checked(s.H) + s.pad_top + s.pad_bottom).size("the height of its padded input");
  const int64_t wide = (Checked(s.W) + s.pad_left + s.pad_right).size("the width of its padded input");
  (Checked(high) * wide * s.C_in).between(1, kMostElements, "the number of elements of its padded input");
  if (high < s.KH || wide < s.KW)
    throw GraphError("its " + std::to_string(s.KH) + "x" + std::to_string(s.KW) +
                     " kernel does not fit into the padded input of " + std::to_string(high) + "x" + std::to_string(wide));
  s.OH = narrow((high - s.KH) / s.stride_h + 1);
  s.OW = narrow((wide - s.KW) / s.stride_w + 1);
  return s;
}

namespace {

template <class Args>
std::string ask(const OpTable& table, const Entry<Args>& e, const Args& args) {
  if (!e.run) return std::string("version ") + table.version + " has no such entry";
  return e.why_not ? e.why_not(args) : "";
}
template <class Args>
std::string ask(const OpTable& table, const Entry<Args>& e, const Conv2dShape& s, const Fusion& f) {
  return ask(table, e, with_shape<Args>(s, f));
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

Conv2dMeanForward conv2d_mean(const Graph& graph, const Node& node, int batch) {
  auto a = with_shape<Conv2dMeanForward>(conv2d_shape(graph, node, batch), conv2d_fusion(graph, node));
  const Ints kernel = node.attributes.sizes("mean_kernel", 2, 1), stride = node.attributes.sizes("mean_stride", 2, 1);
  a.MKH = narrow(kernel[0]), a.MKW = narrow(kernel[1]);
  a.mean_stride_h = narrow(stride[0]), a.mean_stride_w = narrow(stride[1]);
  a.MH = (a.s.OH - a.MKH) / a.mean_stride_h + 1, a.MW = (a.s.OW - a.MKW) / a.mean_stride_w + 1;
  return a;
}

std::string conv2d_mean_refusal(const OpTable& table, const Graph& graph, const Node& node, int batch) {
  const Conv2dMeanForward a = conv2d_mean(graph, node, batch);
  return ask(table, table.conv2d_mean_forward, a);
}

std::string conv2d_refusal(const OpTable& table, const Graph& graph, const Node& node, int batch, bool training) {
  const Conv2dShape s = conv2d_shape(graph, node, batch);
  const Fusion f = conv2d_fusion(graph, node);
  const std::string why = ask(table, table.conv2d_forward, s, f);
  return why.empty() && training ? choose_backward(table, s, f).why : why;
}

}  // namespace warploom
