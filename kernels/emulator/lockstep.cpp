// lockstep.cpp - the lanes of a warp replayed together: which of their steps are one instruction of the warp, and where they part.
//
// Each lane wrote down its basic blocks and accesses. If all wrote the same, step i is one instruction. If not, the blocks they went
// through make a graph; its loops (strongly connected components, nested) and an order of what is not a loop (topological) give
// every step a position:
//   for each function on the stack, for each loop around the step, from outside:  place in the order, number of the iteration;
//   then the place of the basic block, then the number of the step in it.
// The lanes at the lowest position go first, all of them at once. So lanes that parted meet again where their paths do: behind an if,
// after `continue`, at a loop's end when their trip counts differ. That is what a GPU's compiler arranges too (reconvergence at the
// immediate postdominator). Only paths that were taken count: a rare early exit that nobody took keeps nobody apart.
#if defined(WARPLOOM_EMULATOR_COUNTING)
#include "flow_graph.h"

namespace warploom {
namespace emulator {
namespace {

constexpr int kMaxWords = 128;  // of a position

struct Visit {  // lanes that were in a basic block together, and have not all gone on
  uint32_t block, next;
  int lanes;
  bool parted;
};
struct ReplayFrame {
  int32_t node;      // -1 before its first basic block
  uint32_t ordinal;  // steps since then
  int words_at, words_end;
  int visit;
};
struct Cursor {
  const uint32_t* code;
  const uint32_t* end;
  const uint64_t* access;
  int depth;
  int length;  // of the position
  bool done;
  uint32_t step;  // the code at this position
  ReplayFrame frame[kMaxFrames];
  uint32_t words[kMaxWords];
  Grown<uint32_t> iteration;  // by loop
};

}  // namespace

struct Lockstep {
  Cursor lanes[32];
  FlowGraph graph;
  Visit visits[32 * kMaxFrames + 1];
  int free_visits[32 * kMaxFrames + 1];
  int free_count;
};

void make_lockstep(CountState& c) { c.lockstep = new Lockstep; }

namespace {

void note_successor(CountState& c, uint32_t block, uint32_t next) {
  BlockCounts& counts = c.blocks(block_key(block));
  if (counts.next == next || counts.otherwise) return;
  if (!counts.next) {
    counts.next = next;
    return;
  }
  counts.then = counts.next < next ? counts.next : next;
  counts.otherwise = counts.next < next ? next : counts.next;
}

// ---- All lanes did the same ----

bool same_place(const Lane& a, const Lane& b) {
  return a.at_frames == b.at_frames && memcmp(a.at_block, b.at_block, static_cast<size_t>(a.at_frames) * sizeof(uint32_t)) == 0;
}

void replay_together(CountState& c, Lane* lanes, unsigned mask) {
  Lane& first = lanes[__builtin_ctz(mask)];
  const unsigned count = static_cast<unsigned>(__builtin_popcount(mask));
  const uint64_t* accesses[32];
  for (unsigned l = 0; l < 32; ++l) accesses[l] = lanes[l].accesses.data;
  for (uint32_t i = 0; i < first.codes.size; ++i) {
    const uint32_t code = first.codes[i];
    switch (mark_of(code)) {
      case Mark::enter:
        first.at_block[first.at_frames++] = 0;
        break;
      case Mark::leave:
        --first.at_frames;
        break;
      case Mark::block: {
        uint32_t& before = first.at_block[first.at_frames - 1];
        if (before) note_successor(c, before, code);
        BlockCounts& counts = c.blocks(block_key(code));
        ++counts.visits;
        counts.lanes += count;
        before = code;
        break;
      }
      case Mark::access: {
        count_access(c, code, mask, accesses);
        const unsigned taken = Access::action(*accesses[&first - lanes]) == Action::copy ? 2 : 1;
        for (unsigned l = 0; l < 32; ++l) accesses[l] += taken;
        break;
      }
    }
  }
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    Lane& lane = lanes[__builtin_ctz(rest)];
    if (&lane == &first) continue;
    lane.at_frames = first.at_frames;
    memcpy(lane.at_block, first.at_block, sizeof(first.at_block));
  }
}

// ---- Lane after lane through it ----

void leave_visit(Lockstep& s, int visit) {
  if (visit >= 0 && --s.visits[visit].lanes == 0) s.free_visits[s.free_count++] = visit;
}
int new_visit(Lockstep& s, uint32_t block, int lanes) {
  const int visit = s.free_visits[--s.free_count];
  s.visits[visit] = Visit{block, 0, lanes, false};
  return visit;
}

void write_words(Lockstep& s, Cursor& c) {
  ReplayFrame& f = c.frame[c.depth - 1];
  int n = f.words_at;
  if (n + 2 * kMaxDepth + 4 > kMaxWords) fail("nests functions and loops deeper than the counting emulated device follows");
  if (f.node < 0) {
    c.words[n++] = 0;
  } else {
    const Node& node = s.graph.nodes[static_cast<uint32_t>(f.node)];
    c.words[n++] = node.place[0];
    for (int level = 1; level <= node.levels; ++level) {
      c.words[n++] = c.iteration[node.loop[level] - 1];
      c.words[n++] = node.place[level];
    }
  }
  c.words[n++] = f.ordinal;
  f.words_end = c.length = n;
}

void go_to_block(Lockstep& s, Cursor& c, uint32_t code) {
  ReplayFrame& f = c.frame[c.depth - 1];
  const uint32_t to = s.graph.node_of(code);
  const Node& node = s.graph.nodes[to];
  for (int level = 1; level <= node.levels; ++level) {
    const uint32_t loop = node.loop[level];
    bool was_inside = false;
    if (f.node >= 0) {
      const Node& before = s.graph.nodes[static_cast<uint32_t>(f.node)];
      was_inside = before.levels >= level && before.loop[level] == loop;
    }
    if (!was_inside)
      c.iteration[loop - 1] = 0;
    else if (s.graph.loops[loop - 1].header == to)
      ++c.iteration[loop - 1];
  }
  f.node = static_cast<int32_t>(to);
  f.ordinal = 0;
  write_words(s, c);
}

// On to the lane's next basic block or access.
void next_step(Lockstep& s, Cursor& c) {
  for (; c.code != c.end; ++c.code) {
    const uint32_t code = *c.code;
    switch (mark_of(code)) {
      case Mark::enter: {
        int at = 0;
        if (c.depth) {
          ReplayFrame& caller = c.frame[c.depth - 1];
          c.words[caller.words_end - 1] = ++caller.ordinal;
          at = caller.words_end;
        }
        c.frame[c.depth++] = ReplayFrame{-1, 0, at, at, -1};
        write_words(s, c);
        continue;
      }
      case Mark::leave:
        leave_visit(s, c.frame[--c.depth].visit);
        c.length = c.depth ? c.frame[c.depth - 1].words_end : 0;
        continue;
      case Mark::block:
        go_to_block(s, c, code);
        break;
      case Mark::access:
        c.words[c.length - 1] = ++c.frame[c.depth - 1].ordinal;
        break;
    }
    c.step = code;
    ++c.code;
    return;
  }
  c.done = true;
}

int compare(const Cursor& a, const Cursor& b) {
  const int n = a.length < b.length ? a.length : b.length;
  for (int i = 0; i < n; ++i)
    if (a.words[i] != b.words[i]) return a.words[i] < b.words[i] ? -1 : 1;
  if (a.length != b.length) return a.length - b.length;
  if (a.step != b.step) return a.step < b.step ? -1 : 1;
  if (mark_of(a.step) != Mark::access) return 0;
  const uint64_t x = Access::kind(*a.access), y = Access::kind(*b.access);  // one pointer may lead to two kinds of memory
  return x == y ? 0 : x < y ? -1 : 1;
}

void count_visit(CountState& c, unsigned group) {
  Lockstep& s = *c.lockstep;
  const Cursor& first = s.lanes[__builtin_ctz(group)];
  const uint32_t code = first.step;
  const int lanes = __builtin_popcount(group);
  for (unsigned rest = group; rest; rest &= rest - 1) {
    Cursor& lane = s.lanes[__builtin_ctz(rest)];
    const int v = lane.frame[lane.depth - 1].visit;
    if (v < 0) continue;
    Visit& visit = s.visits[v];
    if (!visit.next) {
      visit.next = code;
      note_successor(c, visit.block, code);
    } else if (visit.next != code) {
      note_successor(c, visit.block, code);
      if (!visit.parted) ++c.blocks(block_key(visit.block)).divergent;
      visit.parted = true;
    }
    leave_visit(s, v);
  }
  BlockCounts& counts = c.blocks(block_key(code));
  ++counts.visits;
  counts.lanes += static_cast<uint64_t>(lanes);
  const int visit = new_visit(s, code, lanes);
  for (unsigned rest = group; rest; rest &= rest - 1) {
    Cursor& lane = s.lanes[__builtin_ctz(rest)];
    lane.frame[lane.depth - 1].visit = visit;
  }
}

void replay_apart(CountState& c, Lane* lanes, unsigned mask) {
  Lockstep& s = *c.lockstep;
  s.graph.collect(lanes, mask);

  s.free_count = 0;
  for (int i = 32 * kMaxFrames; i >= 0; --i) s.free_visits[s.free_count++] = i;
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const unsigned l = static_cast<unsigned>(__builtin_ctz(rest));
    Cursor& cursor = s.lanes[l];
    const Lane& lane = lanes[l];
    cursor.code = lane.codes.data;
    cursor.end = lane.codes.data + lane.codes.size;
    cursor.access = lane.accesses.data;
    cursor.depth = 0;
    cursor.length = 0;
    cursor.done = false;
    cursor.iteration.reserve(s.graph.loops.size + 1);
    for (uint32_t k = 0; k < s.graph.loops.size; ++k) cursor.iteration[k] = 0;
    for (int d = 0; d < lane.at_frames; ++d) {
      const int at = d ? cursor.frame[d - 1].words_end : 0;
      cursor.depth = d + 1;
      cursor.frame[d] =
          ReplayFrame{lane.at_block[d] ? static_cast<int32_t>(s.graph.node_of(lane.at_block[d])) : -1, 0, at, at, -1};
      write_words(s, cursor);
    }
    // Lanes that came out of the last meeting at one place are together there.
    for (int d = 0; d < lane.at_frames; ++d) {
      if (!lane.at_block[d]) continue;
      for (unsigned others = mask & ((1u << l) - 1u); others && cursor.frame[d].visit < 0; others &= others - 1) {
        const Lane& other = lanes[__builtin_ctz(others)];
        if (other.at_frames <= d || memcmp(other.at_block, lane.at_block, static_cast<size_t>(d + 1) * sizeof(uint32_t)) != 0)
          continue;
        cursor.frame[d].visit = s.lanes[__builtin_ctz(others)].frame[d].visit;
        ++s.visits[cursor.frame[d].visit].lanes;
      }
      if (cursor.frame[d].visit < 0) cursor.frame[d].visit = new_visit(s, lane.at_block[d], 1);
    }
  }
  unsigned running = mask;
  for (unsigned rest = mask; rest; rest &= rest - 1) next_step(s, s.lanes[__builtin_ctz(rest)]);
  const uint64_t* accesses[32] = {};
  for (;;) {
    unsigned group = 0;
    const Cursor* lowest = nullptr;
    for (unsigned rest = running; rest; rest &= rest - 1) {
      const unsigned l = static_cast<unsigned>(__builtin_ctz(rest));
      const Cursor& lane = s.lanes[l];
      if (lane.done) {
        running &= ~(1u << l);
        continue;
      }
      const int order = lowest ? compare(lane, *lowest) : -1;
      if (order < 0) lowest = &lane, group = 0;
      if (order <= 0) group |= 1u << l;
    }
    if (!lowest) break;
    if (mark_of(lowest->step) == Mark::block) {
      count_visit(c, group);
    } else {
      for (unsigned rest = group; rest; rest &= rest - 1) accesses[__builtin_ctz(rest)] = s.lanes[__builtin_ctz(rest)].access;
      count_access(c, lowest->step, group, accesses);
      const unsigned taken = Access::action(*lowest->access) == Action::copy ? 2 : 1;
      for (unsigned rest = group; rest; rest &= rest - 1) s.lanes[__builtin_ctz(rest)].access += taken;
    }
    for (unsigned rest = group; rest; rest &= rest - 1) next_step(s, s.lanes[__builtin_ctz(rest)]);
  }
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const unsigned l = static_cast<unsigned>(__builtin_ctz(rest));
    const Cursor& cursor = s.lanes[l];
    lanes[l].at_frames = cursor.depth;
    for (int d = 0; d < cursor.depth; ++d)
      lanes[l].at_block[d] = cursor.frame[d].node < 0 ? 0 : s.graph.nodes[static_cast<uint32_t>(cursor.frame[d].node)].code;
  }
}

}  // namespace

void replay_warp(CountState& c, unsigned warp) {
  Lane* const lanes = &c.lanes[warp * 32];
  const unsigned count = c.worker->threads - warp * 32 < 32 ? c.worker->threads - warp * 32 : 32;
  unsigned mask = 0;
  bool same = true;
  const Lane* first = nullptr;
  for (unsigned l = 0; l < count; ++l) {
    const Lane& lane = lanes[l];
    if (!lane.codes.size) continue;
    mask |= 1u << l;
    if (!first) first = &lane;
    same = same && lane.hash == first->hash && lane.codes.size == first->codes.size &&
           lane.accesses.size == first->accesses.size && same_place(lane, *first);
  }
  if (!mask) return;
  if (same)
    replay_together(c, lanes, mask);
  else
    replay_apart(c, lanes, mask);
  for (unsigned l = 0; l < count; ++l) {
    lanes[l].codes.size = lanes[l].accesses.size = 0;
    lanes[l].hash = 0;
  }
}

}  // namespace emulator
}  // namespace warploom
#endif
