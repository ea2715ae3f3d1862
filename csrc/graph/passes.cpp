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

// A graph that is being rewritten. Places of nodes stay as they are until done(), and who reads a value is kept in a table, so that a
// pass over a long network takes time in proportion to its length.
class Rewriter {
 public:
  explicit Rewriter(const Graph& graph) : g(graph), gone_(g.nodes.size(), false), readers_(g.values.size()) {
    renumber_producers(g);
    for (size_t i = 0; i < g.nodes.size(); i++) note_reader(i);
    outputs_.insert(g.outputs.begin(), g.outputs.end());
  }
  Graph g;
  size_t size() const { return g.nodes.size(); }
  bool alive(size_t place) const { return !gone_[place]; }

  // The only consumer of a value nobody else needs; -1 otherwise.
  int sole_consumer(int value) const {
    const auto& readers = readers_[static_cast<size_t>(value)];
    return outputs_.count(value) || readers.size() != 1 ? -1 : readers[0];
  }
  // Two neighbours become one node, at the place of one of them.
  void merge(size_t place, size_t other, const Node& merged) {
    for (const size_t old : {place, other})
      for (const int v : g.nodes[old].inputs) {
        auto& readers = readers_[static_cast<size_t>(v)];
        readers.erase(std::find(readers.begin(), readers.end(), static_cast<int>(old)));
      }
    gone_[other] = true;
    g.nodes[place] = merged;
    note_reader(place);
    for (const int v : merged.outputs) g.values[static_cast<size_t>(v)].producer = static_cast<int>(place);
  }
  Graph done() {
    size_t kept = 0;
    for (size_t i = 0; i < g.nodes.size(); i++) {
      if (gone_[i]) continue;
      if (kept != i) g.nodes[kept] = std::move(g.nodes[i]);
      kept++;
    }
    g.nodes.resize(kept);
    renumber_producers(g);
    return std::move(g);
  }

 private:
  void note_reader(size_t place) {
    for (const int v : g.nodes[place].inputs) readers_[static_cast<size_t>(v)].push_back(static_cast<int>(place));
  }
  std::vector<bool> gone_;
  std::vector<std::vector<int>> readers_;  // by value
  std::set<int> outputs_;
};

// A node of the same name with extra attributes, other inputs and outputs.
Node with(const Node& node, std::vector<int> inputs, std::vector<int> outputs, const Attributes& extra) {
  Node n = node;
  n.inputs = std::move(inputs);
  n.outputs = std::move(outputs);
  for (const auto& [k, v] : extra.values) n.attributes.values[k] = v;
  return n;
}

// One fusion at most for the convolution at place i; where the fused node stands then, or -1 if nothing changed.
int fuse_one(Rewriter& r, size_t i, const Offer& offer, std::set<std::string>& refused, std::vector<std::string>* refusals) {
  const Node conv = r.g.nodes[i];
  auto attempt = [&](size_t other, const Node& fused) {
    const std::string& name = r.g.nodes[other].name;
    if (!refused.insert(conv.name + "+" + name).second) return -1;
    const std::string why = offer(r.g, fused);
    if (!why.empty()) {
      if (refusals) refusals->push_back(name + " is not folded into " + conv.name + ": " + why);
      return -1;
    }
    // The fused node takes the later place, where all its inputs exist.
    const size_t place = std::max(i, other);
    r.merge(place, std::min(i, other), fused);
    return static_cast<int>(place);
  };
  const int next = r.sole_consumer(conv.outputs[0]);
  if (next >= 0) {
    const Node after = r.g.nodes[static_cast<size_t>(next)];
    if (is_op(after, "activation") && !conv.attributes.has("activation") && !conv.attributes.has("pool")) {
      Attributes extra;
      extra.values["activation"] = after.attributes.word("kind", "relu");
      extra.values["negative_slope"] = after.attributes.number("negative_slope", 0.0);
      const int place = attempt(static_cast<size_t>(next), with(conv, conv.inputs, after.outputs, extra));
      if (place >= 0) return place;
    }
    if (is_op(after, "max_pool2d") && !conv.attributes.has("pool")) {
      const Ints kernel = after.attributes.list("kernel", 2, 1), stride = after.attributes.list("stride", 2, 1);
      if (kernel == stride && kernel[0] == kernel[1] && kernel[0] > 1) {
        Attributes extra;
        extra.values["pool"] = kernel[0];
        const int place = attempt(static_cast<size_t>(next), with(conv, conv.inputs, after.outputs, extra));
        if (place >= 0) return place;
      }
    }
  }
  const int producer = r.g.values[static_cast<size_t>(conv.inputs[0])].producer;
  if (producer >= 0 && !conv.attributes.has("upsample") && r.sole_consumer(conv.inputs[0]) == static_cast<int>(i)) {
    const Node before = r.g.nodes[static_cast<size_t>(producer)];
    const Ints scale = before.attributes.list("scale", 2, 1);
    if (is_op(before, "upsample") && before.attributes.word("mode", "nearest") == "nearest" && scale[0] == scale[1] &&
        scale[0] > 1) {
      Attributes extra;
      extra.values["upsample"] = scale[0];
      return attempt(static_cast<size_t>(producer), with(conv, before.inputs, conv.outputs, extra));
    }
  }
  return -1;
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
  Rewriter r(graph);
  std::set<std::string> refused;
  for (size_t i = 0; i < r.size(); i++) {
    if (!r.alive(i) || (!is_op(r.g.nodes[i], "conv2d") && !is_op(r.g.nodes[i], "linear"))) continue;
    for (int at = static_cast<int>(i); at >= 0;) at = fuse_one(r, static_cast<size_t>(at), offer, refused, refusals);
  }
  return r.done();
}

Graph fuse_activations(const Graph& graph) {
  Rewriter r(graph);
  for (size_t i = 0; i < r.size(); i++) {
    if (!r.alive(i)) continue;
    const Node n = r.g.nodes[i];
    if (!n.op->takes_activation() || n.attributes.has("activation")) continue;
    const int next = r.sole_consumer(n.outputs[0]);
    if (next < 0 || !is_op(r.g.nodes[static_cast<size_t>(next)], "activation")) continue;
    const Node after = r.g.nodes[static_cast<size_t>(next)];
    if (!in_epilogues(parse<Activation>(after.attributes.word("kind", "relu")))) continue;
    Attributes extra;
    extra.values["activation"] = after.attributes.word("kind", "relu");
    extra.values["negative_slope"] = after.attributes.number("negative_slope", 0.0);
    r.merge(i, static_cast<size_t>(next), with(n, n.inputs, after.outputs, extra));
  }
  return r.done();
}

Graph fold_batch_norm(const Graph& graph) {
  Rewriter r(graph);
  for (size_t i = 0; i < r.size(); i++) {
    if (!r.alive(i)) continue;
    const Node n = r.g.nodes[i];
    const bool transposed = is_op(n, "conv_transpose2d");
    if (!transposed && !is_op(n, "conv2d")) continue;
    // The weight of a grouped transposed convolution holds its output channels on two axes.
    if (n.attributes.has("activation") || n.attributes.has("batch_norm_eps") ||
        (transposed && n.attributes.integer("groups", 1) > 1))
      continue;
    const int next = r.sole_consumer(n.outputs[0]);
    if (next < 0 || !is_op(r.g.nodes[static_cast<size_t>(next)], "batch_norm")) continue;
    const Node norm = r.g.nodes[static_cast<size_t>(next)];
    Attributes extra;
    extra.values["batch_norm_eps"] = norm.attributes.number("eps", 1e-5);
    for (const char* key : {"activation", "negative_slope"})
      if (norm.attributes.has(key)) extra.values[key] = norm.attributes.values.at(key);
    Node folded = with(n, n.inputs, norm.outputs, extra);
    folded.parameters.insert(folded.parameters.end(), norm.parameters.begin(), norm.parameters.end());
    r.merge(i, static_cast<size_t>(next), folded);
  }
  return r.done();
}

Graph fold_avg_pools(const Graph& graph, const Offer& offer, std::vector<std::string>* refusals) {
  Rewriter r(graph);
  for (size_t i = 0; i < r.size(); i++) {
    if (!r.alive(i)) continue;
    const Node n = r.g.nodes[i];
    if (!is_op(n, "conv2d") || n.attributes.has("batch_norm_eps")) continue;
    const int next = r.sole_consumer(n.outputs[0]);
    if (next < 0 || !is_op(r.g.nodes[static_cast<size_t>(next)], "avg_pool2d")) continue;
    const Node pool = r.g.nodes[static_cast<size_t>(next)];
    Attributes extra;
    extra.values["mean_kernel"] = pool.attributes.list("kernel", 2, 2);
    extra.values["mean_stride"] = pool.attributes.list("stride", 2, 2);
    Node folded = with(n, n.inputs, pool.outputs, extra);
    folded.op = find_op("conv2d_mean");
    const std::string why = offer(r.g, folded);
    if (why.empty())
      r.merge(static_cast<size_t>(next), i, folded);
    else if (refusals)
      refusals->push_back(pool.name + " is not folded into " + n.name + ": " + why);
  }
  return r.done();
}

Graph fold_upsamples(const Graph& graph) {
  Rewriter r(graph);
  for (size_t i = 0; i < r.size(); i++) {
    if (!r.alive(i)) continue;
    const Node n = r.g.nodes[i];
    if (!is_op(n, "conv2d") || n.attributes.has("upsample") || n.attributes.has("pool") || n.attributes.has("batch_norm_eps"))
      continue;
    const Shape& w = r.g.parameters[static_cast<size_t>(n.parameters[0])].shape;
    if (w[2] != 3 || w[3] != 3 || n.attributes.integer("groups", 1) != 1 || n.attributes.list("stride", 2, 1) != Ints{1, 1} ||
        n.attributes.list("padding", 4, 0) != Ints{1, 1, 1, 1})
      continue;
    const int producer = r.g.values[static_cast<size_t>(n.inputs[0])].producer;
    if (producer < 0 || r.sole_consumer(n.inputs[0]) != static_cast<int>(i)) continue;
    const Node before = r.g.nodes[static_cast<size_t>(producer)];
    if (!is_op(before, "upsample") || before.attributes.word("mode", "nearest") != "nearest" ||
        before.attributes.list("scale", 2, 2) != Ints{2, 2})
      continue;
    Node folded = with(n, before.inputs, n.outputs, {});
    folded.op = find_op("upsample_conv2d");
    r.merge(i, static_cast<size_t>(producer), folded);
  }
  return r.done();
}

}  // namespace warploom
