#include "csrc/graph/passes.h"

#include <algorithm>
#include <set>

#include "csrc/core/names.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace {

bool is_op(const Node& node, const char* op) { return std::string(node.op->name()) == op; }

void renumber_producers(Graph& g) {
  for (auto& v : g.values) v.producer = -1;
  for (size_t i = 0; i < g.nodes.size(); i++)
    for (const int v : g.nodes[i].outputs) g.values[static_cast<size_t>(v)].producer = static_cast<int>(i);
}

// The only consumer of a value nobody else needs; -1 otherwise.
int sole_consumer(const Graph& g, int value) {
  if (std::count(g.outputs.begin(), g.outputs.end(), value)) return -1;
  const auto c = g.consumers(value);
  return c.size() == 1 ? c[0] : -1;
}

// A node of the same name with extra attributes, other inputs and outputs.
Node with(const Node& node, std::vector<int> inputs, std::vector<int> outputs, const Attributes& extra) {
  Node n = node;
  n.inputs = std::move(inputs);
  n.outputs = std::move(outputs);
  for (const auto& [k, v] : extra.values) n.attributes.values[k] = v;
  return n;
}

bool try_fuse(Graph& g, size_t conv, size_t other, const Node& fused, const Offer& offer, std::vector<std::string>* refusals) {
  const std::string why = offer(g, fused);
  if (!why.empty()) {
    if (refusals) refusals->push_back(g.nodes[other].name + " is not folded into " + g.nodes[conv].name + ": " + why);
    return false;
  }
  // The fused node takes the later place, where all its inputs exist.
  const size_t place = std::max(conv, other), gone = std::min(conv, other);
  g.nodes[place] = fused;
  g.nodes.erase(g.nodes.begin() + static_cast<std::ptrdiff_t>(gone));
  renumber_producers(g);
  return true;
}

// The node takes over the outputs of the one after it, which goes.
void absorb(Graph& g, size_t node, size_t after, const Node& merged) {
  const std::vector<int> outputs = g.nodes[after].outputs;
  g.nodes[node] = merged;
  g.nodes[node].outputs = outputs;
  g.nodes.erase(g.nodes.begin() + static_cast<std::ptrdiff_t>(after));
  renumber_producers(g);
}

// One fusion at most for this convolution; true if the graph changed.
bool fuse_one(Graph& g, size_t i, const Offer& offer, std::set<std::string>& refused, std::vector<std::string>* refusals) {
  const Node conv = g.nodes[i];
  const int next = sole_consumer(g, conv.outputs[0]);
  auto attempt = [&](size_t other, const Node& fused) {
    if (!refused.insert(conv.name + "+" + g.nodes[other].name).second) return false;
    return try_fuse(g, i, other, fused, offer, refusals);
  };
  if (next >= 0) {
    const Node& after = g.nodes[static_cast<size_t>(next)];
    if (is_op(after, "activation") && !conv.attributes.has("activation") && !conv.attributes.has("pool")) {
      Attributes extra;
      extra.values["activation"] = after.attributes.word("kind", "relu");
      extra.values["negative_slope"] = after.attributes.number("negative_slope", 0.0);
      if (attempt(static_cast<size_t>(next), with(conv, conv.inputs, after.outputs, extra))) return true;
    }
    if (is_op(after, "max_pool2d") && !conv.attributes.has("pool")) {
      const Ints kernel = after.attributes.list("kernel", 2, 1), stride = after.attributes.list("stride", 2, 1);
      if (kernel == stride && kernel[0] == kernel[1] && kernel[0] > 1) {
        Attributes extra;
        extra.values["pool"] = kernel[0];
        if (attempt(static_cast<size_t>(next), with(conv, conv.inputs, after.outputs, extra))) return true;
      }
    }
  }
  const int producer = g.values[static_cast<size_t>(conv.inputs[0])].producer;
  if (producer >= 0 && !conv.attributes.has("upsample") && sole_consumer(g, conv.inputs[0]) == static_cast<int>(i)) {
    const Node& before = g.nodes[static_cast<size_t>(producer)];
    const Ints scale = before.attributes.list("scale", 2, 1);
    if (is_op(before, "upsample") && before.attributes.word("mode", "nearest") == "nearest" && scale[0] == scale[1] &&
        scale[0] > 1) {
      Attributes extra;
      extra.values["upsample"] = scale[0];
      if (attempt(static_cast<size_t>(producer), with(conv, before.inputs, conv.outputs, extra))) return true;
    }
  }
  return false;
}

}  // namespace

Graph prune(const Graph& graph, const std::vector<int>& values) {
  std::set<int> needed(values.begin(), values.end());
  std::vector<Node> kept;
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& n = graph.nodes[i];
    if (std::none_of(n.outputs.begin(), n.outputs.end(), [&](int v) { return needed.count(v) > 0; })) continue;
    needed.insert(n.inputs.begin(), n.inputs.end());
    kept.push_back(n);
  }
  Graph g = graph;
  g.nodes.assign(kept.rbegin(), kept.rend());
  g.outputs = values;
  renumber_producers(g);
  return g;
}

Graph fuse_convolutions(const Graph& graph, const Offer& offer, std::vector<std::string>* refusals) {
  Graph g = graph;
  std::set<std::string> refused;
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < g.nodes.size() && !changed; i++)
      if (is_op(g.nodes[i], "conv2d") || is_op(g.nodes[i], "linear")) changed = fuse_one(g, i, offer, refused, refusals);
  }
  return g;
}

Graph fuse_activations(const Graph& graph) {
  Graph g = graph;
  for (size_t i = 0; i < g.nodes.size(); i++) {
    const Node& n = g.nodes[i];
    if (!n.op->takes_activation() || n.attributes.has("activation")) continue;
    const int next = sole_consumer(g, n.outputs[0]);
    if (next < 0 || !is_op(g.nodes[static_cast<size_t>(next)], "activation")) continue;
    const Attributes& a = g.nodes[static_cast<size_t>(next)].attributes;
    if (!in_epilogues(parse<Activation>(a.word("kind", "relu")))) continue;
    Attributes extra;
    extra.values["activation"] = a.word("kind", "relu");
    extra.values["negative_slope"] = a.number("negative_slope", 0.0);
    absorb(g, i, static_cast<size_t>(next), with(n, n.inputs, n.outputs, extra));
  }
  return g;
}

Graph fold_batch_norm(const Graph& graph) {
  Graph g = graph;
  for (size_t i = 0; i < g.nodes.size(); i++) {
    const Node& n = g.nodes[i];
    const bool transposed = is_op(n, "conv_transpose2d");
    if (!transposed && !is_op(n, "conv2d")) continue;
    // The weight of a grouped transposed convolution holds its output channels on two axes.
    if (n.attributes.has("activation") || n.attributes.has("batch_norm_eps") ||
        (transposed && n.attributes.integer("groups", 1) > 1))
      continue;
    const int next = sole_consumer(g, n.outputs[0]);
    if (next < 0 || !is_op(g.nodes[static_cast<size_t>(next)], "batch_norm")) continue;
    const Node& norm = g.nodes[static_cast<size_t>(next)];
    Attributes extra;
    extra.values["batch_norm_eps"] = norm.attributes.number("eps", 1e-5);
    for (const char* key : {"activation", "negative_slope"})
      if (norm.attributes.has(key)) extra.values[key] = norm.attributes.values.at(key);
    Node folded = with(n, n.inputs, n.outputs, extra);
    folded.parameters.insert(folded.parameters.end(), norm.parameters.begin(), norm.parameters.end());
    absorb(g, i, static_cast<size_t>(next), folded);
  }
  return g;
}

Graph fold_upsamples(const Graph& graph) {
  Graph g = graph;
  for (size_t i = 0; i < g.nodes.size(); i++) {
    const Node n = g.nodes[i];
    if (!is_op(n, "conv2d") || n.attributes.has("upsample") || n.attributes.has("pool") || n.attributes.has("batch_norm_eps"))
      continue;
    const Shape& w = g.parameters[static_cast<size_t>(n.parameters[0])].shape;
    if (w[2] != 3 || w[3] != 3 || n.attributes.integer("groups", 1) != 1 || n.attributes.list("stride", 2, 1) != Ints{1, 1} ||
        n.attributes.list("padding", 4, 0) != Ints{1, 1, 1, 1})
      continue;
    const int producer = g.values[static_cast<size_t>(n.inputs[0])].producer;
    if (producer < 0 || sole_consumer(g, n.inputs[0]) != static_cast<int>(i)) continue;
    const Node& before = g.nodes[static_cast<size_t>(producer)];
    if (!is_op(before, "upsample") || before.attributes.word("mode", "nearest") != "nearest" ||
        before.attributes.list("scale", 2, 2) != Ints{2, 2})
      continue;
    Node folded = with(n, before.inputs, n.outputs, {});
    folded.op = find_op("upsample_conv2d");
    g.nodes[i] = folded;
    g.nodes.erase(g.nodes.begin() + producer);
    renumber_producers(g);
    i--;
  }
  return g;
}

}  // namespace warploom
