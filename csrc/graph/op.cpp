#include "csrc/graph/op.h"

#include <map>

namespace warploom {

bool OpDef::takes_storage(const Graph& graph, const Node& node, const OpTable&, int, bool) const {
  const auto& v = graph.values;
  for (const int value : node.outputs)
    if (v[static_cast<size_t>(value)].type != DType::f32) return false;
  for (const int value : node.inputs)
    if (v[static_cast<size_t>(value)].type != DType::f32) return false;
  return true;
}

bool stored_alike(const Graph& graph, const Node& node) {
  const auto type = [&](int value) { return graph.values[static_cast<size_t>(value)].type; };
  for (const int value : node.inputs)
    if (type(value) != type(node.outputs[0])) return false;
  return true;
}
bool slope_survives(Activation kind, DType output) {
  return output == DType::f32 || (kind != Activation::sigmoid && kind != Activation::tanh && kind != Activation::elu);
}
namespace {
std::map<std::string, const OpDef*>& ops() {
  static auto* map = new std::map<std::string, const OpDef*>();
  return *map;
}
}  // namespace

void register_op(const OpDef* op) { ops()[op->name()] = op; }

const OpDef* find_op(const std::string& name) {
  const auto found = ops().find(name);
  if (found != ops().end()) return found->second;
  std::string known;
  for (const auto& o : ops()) known += (known.empty() ? "" : ", ") + o.first;
  throw GraphError("unknown operation '" + name + "'; there are " + known);
}

}  // namespace warploom
