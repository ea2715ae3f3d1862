#include "csrc/graph/storage.h"

#include <cstdlib>
#include <string>

#include "csrc/graph/op.h"

namespace warploom {
namespace {

// WARPLOOM_MAPS=float32 stores all maps in float32, whatever the precision: for comparisons.
bool float32_wanted() {
  const char* text = std::getenv("WARPLOOM_MAPS");
  if (!text || !*text) return false;
  if (std::string(text) != "float32")
    throw UnsupportedError("WARPLOOM_MAPS is \"" + std::string(text) +
                           "\"; expected float32, or nothing: maps as the precision says");
  return true;
}

}  // namespace

void choose_storage(Graph& graph, const OpTable& table, Precision precision, int batch, bool training,
                    const std::vector<int>& whole) {
  const DType half = half_type(precision);
  if (half == DType::f32 || float32_wanted()) return;
  std::vector<int> readers(graph.values.size());
  for (const Node& n : graph.nodes)
    for (const int v : n.inputs) readers[static_cast<size_t>(v)]++;
  Add sum;  // of the gradients of a value that several read
  sum.type = gradient_type(half);
  const bool sums = !training || !table.add.why_not || table.add.why_not(sum).empty();
  for (size_t v = 0; v < graph.values.size(); v++) {
    Value& value = graph.values[v];
    if (value.producer >= 0 && (readers[v] == 1 || (readers[v] > 1 && sums))) value.type = half;
  }
  for (const int v : whole) graph.values[static_cast<size_t>(v)].type = DType::f32;

  const auto set = [&](const std::vector<int>& values, DType type) {
    bool changed = false;
    for (const int v : values) {
      DType& old = graph.values[static_cast<size_t>(v)].type;
      changed = changed || old != type;
      old = type;
    }
    return changed;
  };
  // What a node does not take becomes float32: its inputs, or its outputs, or both. Each change leaves fewer, so this ends.
  bool changed = true;
  while (changed) {
    changed = false;
    for (const Node& n : graph.nodes) {
      const auto takes = [&] { return n.op->takes_storage(graph, n, table, batch, training); };
      if (takes()) continue;
      std::vector<DType> before;
      for (const int v : n.inputs) before.push_back(graph.values[static_cast<size_t>(v)].type);
      bool some = set(n.inputs, DType::f32);
      if (!some || !takes()) {
        for (size_t i = 0; i < n.inputs.size(); i++) graph.values[static_cast<size_t>(n.inputs[i])].type = before[i];
        some = set(n.outputs, DType::f32);
        if (!some || !takes()) some = set(n.inputs, DType::f32) || some;
      }
      changed = changed || some;
    }
  }
}

}  // namespace warploom
