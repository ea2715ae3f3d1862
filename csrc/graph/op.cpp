#include "csrc/graph/op.h"

#include <map>

namespace warploom {
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
