// flow_graph.h - the basic blocks that the lanes of a warp went through, how they follow each other, and the loops they make.
//
// Loops are the strongly connected components of the graph, the loops inside them those of what is left without the edges back to
// their header, and so on. What is not a loop has a topological order, at every level. Made anew for each replay, from the blocks that
// were visited in it.
#pragma once

#include "counting.h"

namespace warploom {
namespace emulator {

constexpr int kMaxDepth = 12;  // of nested loops
constexpr uint32_t kRecentEdges = 512;

struct Node {  // a basic block that occurs in this replay
  uint32_t code;
  uint32_t first_edge;  // into edges, after they have been sorted by source
  uint32_t edge_count;
  uint16_t levels;                // loops around it
  uint32_t place[kMaxDepth + 1];  // its place in the order, at each level
  uint32_t loop[kMaxDepth + 1];   // loop[0] is none; loop[k] holds it at level k
  uint32_t seen;                  // order of first visit
  // Tarjan
  uint32_t index, low;
  bool on_stack;
};
struct Loop {
  uint32_t header;
};

inline uint64_t block_key(uint32_t code) { return code | uint64_t(1) << 32; }

struct FlowGraph {
  Grown<Node> nodes;
  Grown<uint64_t> edges;  // source << 32 | target, sorted
  Grown<Loop> loops;      // number k is loops[k - 1]
  uint32_t node_of(uint32_t code);
  void collect(const Lane* lanes, unsigned mask);

 private:
  void sort_edges();
  bool find_loops(int level);
  CountTable<BlockCounts> index_;        // code -> 1 + node, in `visits`
  uint64_t recent_edges_[kRecentEdges];  // most are repetitions
  Grown<uint32_t> stack_, work_, edge_at_;
};

}  // namespace emulator
}  // namespace warploom
