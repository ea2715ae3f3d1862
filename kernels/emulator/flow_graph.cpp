// flow_graph.cpp - see flow_graph.h.
#if defined(WARPLOOM_EMULATOR_COUNTING)
#include "flow_graph.h"

#include <cstdlib>

namespace warploom {
namespace emulator {

uint32_t FlowGraph::node_of(uint32_t code) {
  BlockCounts& row = index_(block_key(code));
  if (!row.visits) {
    Node node = {};
    node.code = code;
    node.seen = nodes.size;
    nodes.push(node);
    row.visits = nodes.size;
  }
  return static_cast<uint32_t>(row.visits - 1);
}

void FlowGraph::collect(const Lane* lanes, unsigned mask) {
  index_.clear();
  nodes.size = edges.size = loops.size = 0;
  memset(recent_edges_, 0xff, sizeof(recent_edges_));
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const Lane& lane = lanes[__builtin_ctz(rest)];
    int32_t at[kMaxFrames];
    int depth = lane.at_frames;
    for (int d = 0; d < depth; ++d) at[d] = lane.at_block[d] ? static_cast<int32_t>(node_of(lane.at_block[d])) : -1;
    for (uint32_t i = 0; i < lane.codes.size; ++i) {
      const uint32_t code = lane.codes[i];
      if (mark_of(code) == Mark::enter) {
        at[depth++] = -1;
      } else if (mark_of(code) == Mark::leave) {
        --depth;
      } else if (mark_of(code) == Mark::block) {
        const int32_t node = static_cast<int32_t>(node_of(code));
        const int32_t before = at[depth - 1];
        at[depth - 1] = node;
        if (before < 0) continue;
        const uint64_t edge = static_cast<uint64_t>(before) << 32 | static_cast<uint32_t>(node);
        uint64_t& recent = recent_edges_[(static_cast<uint32_t>(before) * 31u + static_cast<uint32_t>(node)) % kRecentEdges];
        if (recent == edge) continue;
        recent = edge;
        edges.push(edge);
      }
    }
  }
  sort_edges();
  for (int level = 0; find_loops(level) && level < kMaxDepth;) ++level;
}

void FlowGraph::sort_edges() {
  qsort(edges.data, edges.size, sizeof(uint64_t), [](const void* a, const void* b) {
    const uint64_t x = *static_cast<const uint64_t*>(a), y = *static_cast<const uint64_t*>(b);
    return x < y ? -1 : x > y;
  });
  uint32_t kept = 0;
  for (uint32_t k = 0; k < edges.size; ++k)
    if (k == 0 || edges[k] != edges[k - 1]) edges[kept++] = edges[k];
  edges.size = kept;
  for (uint32_t k = 0; k < kept; ++k) {
    Node& from = nodes[static_cast<uint32_t>(edges[k] >> 32)];
    if (!from.edge_count) from.first_edge = k;
    ++from.edge_count;
  }
}

// One level: the components of what is left when the edges back to the headers of the loops known so far are taken away. Returns
// whether a loop was found.
bool FlowGraph::find_loops(int level) {
  const uint32_t count = nodes.size;
  stack_.size = work_.size = edge_at_.size = 0;
  edge_at_.reserve(count);
  uint32_t next_index = 0, components = 0;
  bool found = false;
  for (uint32_t i = 0; i < count; ++i) nodes[i].index = 0, nodes[i].on_stack = false;
  // A node whose loops ended above this level is alone in its component, and is not looked at again.
  auto inside = [&](uint32_t a, uint32_t b) {
    const Node &x = nodes[a], &y = nodes[b];
    return x.levels == level && y.levels == level && x.loop[level] == y.loop[level] &&
           !(level > 0 && loops[x.loop[level] - 1].header == b);
  };
  for (uint32_t start = 0; start < count; ++start) {
    if (nodes[start].index || nodes[start].levels != level) continue;
    work_.push(start);
    while (work_.size) {
      const uint32_t v = work_[work_.size - 1];
      Node& node = nodes[v];
      if (!node.index) {
        node.index = node.low = ++next_index;
        node.on_stack = true;
        stack_.push(v);
        edge_at_[v] = 0;
      }
      bool deeper = false;
      while (edge_at_[v] < node.edge_count) {
        const uint32_t target = static_cast<uint32_t>(edges[node.first_edge + edge_at_[v]]);
        ++edge_at_[v];
        if (!inside(v, target)) continue;
        Node& to = nodes[target];
        if (!to.index) {
          work_.push(target);
          deeper = true;
          break;
        }
        if (to.on_stack && to.index < node.low) node.low = to.index;
      }
      if (deeper) continue;
      --work_.size;
      if (work_.size) {
        Node& parent = nodes[work_[work_.size - 1]];
        if (node.low < parent.low) parent.low = node.low;
      }
      if (node.low != node.index) continue;
      // A component. They come in reverse topological order.
      uint32_t bottom = stack_.size;
      while (stack_[bottom - 1] != v) --bottom;
      --bottom;
      const uint32_t size = stack_.size - bottom;
      bool loop = size > 1;
      for (uint32_t e = 0; !loop && e < node.edge_count; ++e)
        loop = static_cast<uint32_t>(edges[node.first_edge + e]) == v && inside(v, v);
      uint32_t header = v;
      for (uint32_t k = bottom; k < stack_.size; ++k)
        if (nodes[stack_[k]].seen < nodes[header].seen) header = stack_[k];
      if (loop && level < kMaxDepth) {
        loops.push(Loop{header});
        found = true;
      }
      ++components;
      for (uint32_t k = bottom; k < stack_.size; ++k) {
        Node& member = nodes[stack_[k]];
        member.on_stack = false;
        member.place[level] = ~components;
        if (loop && level < kMaxDepth) {
          member.loop[level + 1] = loops.size;
        }
      }
      stack_.size = bottom;
    }
  }
  for (uint32_t i = 0; i < count; ++i)
    if (nodes[i].levels == level && level < kMaxDepth && nodes[i].loop[level + 1])
      nodes[i].levels = static_cast<uint16_t>(level + 1);
  return found;
}

}  // namespace emulator
}  // namespace warploom
#endif
