// count_report.cpp - what was counted, added up over blocks and launches, told by kernel and source line as JSON; and the C function
// through which counting is switched on and the report fetched (warploom_counters).
#if defined(WARPLOOM_EMULATOR_COUNTING)
#include <fnmatch.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "counting.h"
#include "memory.h"
#include "source_lines.h"
#include "tensor_cores.h"

namespace warploom {
namespace emulator {

CountOrders count_orders;

namespace {

thread_local std::string call_of_this_thread;

struct Shape {
  unsigned x, y, z;
  bool operator<(const Shape& o) const { return std::tie(x, y, z) < std::tie(o.x, o.y, o.z); }
};

struct KernelKey {
  std::string call, name;
  uintptr_t function;
  Shape grid, block;
  size_t dynamic_shared;
  bool operator<(const KernelKey& o) const {
    return std::tie(call, name, function, grid, block, dynamic_shared) <
           std::tie(o.call, o.name, o.function, o.grid, o.block, o.dynamic_shared);
  }
};

struct Kernel {
  uint64_t order = 0;                     // of the first launch
  std::map<uint64_t, uint64_t> launches;  // serial -> 1
  KernelTotals totals;
  std::map<uint64_t, SiteCounts> sites;
  std::map<uint64_t, BlockCounts> blocks;
};

struct Whole {
  std::mutex lock;
  std::map<KernelKey, Kernel> kernels;
  uint64_t order = 0;
};
Whole& whole() {
  static Whole* w = new Whole;
  return *w;
}

Shape shape(const dim3& d) { return Shape{d.x, d.y, d.z}; }

void add(SiteCounts& to, const SiteCounts& from) {
  to.key = from.key;
  to.requests += from.requests;
  to.lanes += from.lanes;
  to.bytes += from.bytes;
  to.unique_bytes += from.unique_bytes;
  to.sectors += from.sectors;
  to.ideal_sectors += from.ideal_sectors;
  to.wavefronts += from.wavefronts;
  to.ideal_wavefronts += from.ideal_wavefronts;
}

void add_successor(BlockCounts& to, uint32_t code) {
  if (!code || code == to.next || to.otherwise) return;
  if (!to.next) {
    to.next = code;
    return;
  }
  to.then = to.next < code ? to.next : code;
  to.otherwise = to.next < code ? code : to.next;
}

void add(KernelTotals& to, const KernelTotals& from) {
  to.blocks_counted += from.blocks_counted;
  to.barriers += from.barriers;
  to.shuffles += from.shuffles;
  to.votes += from.votes;
  to.warp_syncs += from.warp_syncs;
  to.matrix_loads += from.matrix_loads;
  to.warpgroup_multiplies += from.warpgroup_multiplies;
  to.warpgroup_flops += from.warpgroup_flops;
  for (int i = 0; i < 4; ++i) to.matrix_multiplies[i] += from.matrix_multiplies[i];
  if (from.static_shared > to.static_shared) to.static_shared = from.static_shared;
}

}  // namespace

void name_call(const char* op) { call_of_this_thread = op; }

void launch_opens(Launch& launch) {
  launch.call = call_of_this_thread;
  launch.counted =
      count_orders.on && (count_orders.calls.empty() || fnmatch(count_orders.calls.c_str(), launch.call.c_str(), 0) == 0);
}

void add_counts(Worker& w) {
  CountState& c = *w.counts;
  const LaunchRequest& r = *w.launch->request;
  if (!w.launch->counted) return;
  Whole& all = whole();
  const std::lock_guard<std::mutex> hold(all.lock);
  Kernel& k = all.kernels[KernelKey{w.launch->call, r.name, reinterpret_cast<uintptr_t>(r.kernel), shape(r.grid), shape(r.block),
                                    r.shared_bytes}];
  if (k.launches.empty()) k.order = w.launch->serial;
  k.launches[w.launch->serial] = 1;
  add(k.totals, c.totals);
  for (uint32_t i = 0; i < c.sites.capacity; ++i)
    if (c.sites.rows[i].key) add(k.sites[c.sites.rows[i].key], c.sites.rows[i]);
  for (uint32_t i = 0; i < c.blocks.capacity; ++i) {
    const BlockCounts& from = c.blocks.rows[i];
    if (!from.key) continue;
    BlockCounts& to = k.blocks[from.key];
    to.key = from.key;
    to.visits += from.visits;
    to.lanes += from.lanes;
    to.divergent += from.divergent;
    if (from.otherwise) {
      add_successor(to, from.then);
      add_successor(to, from.otherwise);
    } else {
      add_successor(to, from.next);
    }
  }
  forget_counts(c);
}

namespace {

uintptr_t place_of(uint32_t code) { return library_place.base + (code >> 2); }

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char ch : text) {
    if (ch == '"' || ch == '\\') out += '\\';
    if (static_cast<unsigned char>(ch) >= 0x20) out += ch;
  }
  return out + "\"";
}

class Json {
 public:
  std::string text;
  void key(const char* name) {
    comma();
    text += quoted(name) + ": ";
    fresh_ = true;
  }
  void number(const char* name, uint64_t v) { key(name), value(std::to_string(v)); }
  void string(const char* name, const std::string& v) { key(name), value(quoted(v)); }
  void number_in_list(uint64_t v) { comma(), value(std::to_string(v)); }
  void raw(const char* name, const std::string& json) { key(name), value(json); }
  void shape(const char* name, const Shape& s) {
    key(name);
    value("[" + std::to_string(s.x) + ", " + std::to_string(s.y) + ", " + std::to_string(s.z) + "]");
  }
  void open(char bracket) {
    comma();
    text += bracket;
    fresh_ = true;
  }
  void close(char bracket) {
    text += bracket;
    fresh_ = false;
  }

 private:
  void value(const std::string& v) {
    text += v;
    fresh_ = false;
  }
  void comma() {
    if (!fresh_) text += ", ";
    fresh_ = false;
  }
  bool fresh_ = true;
};

struct LineKey {
  std::string file;
  int line;
  std::string function;
  bool shared;
  Action action;
  uint32_t bytes;
  bool operator<(const LineKey& o) const {
    return std::tie(file, line, function, shared, action, bytes) <
           std::tie(o.file, o.line, o.function, o.shared, o.action, o.bytes);
  }
};

const char* action_name(Action a) {
  switch (a) {
    case Action::load:
      return "load";
    case Action::store:
      return "store";
    case Action::atomic:
      return "atomic";
    case Action::copy:
      return "copy";
  }
  return "";
}

void put(Json& j, const SiteCounts& s, bool shared) {
  j.number("requests", s.requests);
  j.number("lanes", s.lanes);
  j.number("bytes", s.bytes);
  if (shared) {
    j.number("wavefronts", s.wavefronts);
    j.number("ideal_wavefronts", s.ideal_wavefronts);
  } else {
    j.number("unique_bytes", s.unique_bytes);
    j.number("sectors", s.sectors);
    j.number("ideal_sectors", s.ideal_sectors);
  }
}

struct Lines {  // of all codes that are told of, asked for at once
  std::map<uint32_t, SourceLine> by_code;
  explicit Lines(const std::map<KernelKey, Kernel>& kernels) {
    for (const auto& k : kernels) {
      for (const auto& s : k.second.sites) by_code[static_cast<uint32_t>(s.first)];
      for (const auto& b : k.second.blocks)
        if (b.second.divergent) by_code[b.second.then], by_code[b.second.otherwise], by_code[static_cast<uint32_t>(b.first)];
    }
    std::vector<uintptr_t> places;
    for (const auto& c : by_code) places.push_back(place_of(c.first));
    const std::vector<SourceLine> found = source_lines(places);
    size_t i = 0;
    for (auto& c : by_code) c.second = found[i++];
  }
  const SourceLine& operator[](uint32_t code) const { return by_code.at(code); }
};

// Lanes part at the end of a basic block; a reader looks at where they go. Of the two ways the one that stands next in the source
// after the parting block is the inner one.
const SourceLine& parting(const Lines& lines, const BlockCounts& b) {
  const SourceLine& from = lines[static_cast<uint32_t>(b.key)];
  const SourceLine &x = lines[b.then], &y = lines[b.otherwise];
  auto distance = [&](const SourceLine& to) {
    return to.file != from.file ? 1000000 : to.line >= from.line ? to.line - from.line : 100000 + from.line - to.line;
  };
  return distance(x) <= distance(y) ? x : y;
}

void put(Json& j, const KernelKey& key, const Kernel& k, const Lines& lines) {
  const KernelTotals& t = k.totals;
  const uint64_t blocks = uint64_t(key.grid.x) * key.grid.y * key.grid.z * k.launches.size();
  j.open('{');
  j.string("call", key.call);
  j.string("kernel", key.name);
  j.number("launches", k.launches.size());
  j.shape("grid", key.grid);
  j.shape("block", key.block);
  j.number("static_shared", t.static_shared);
  j.number("dynamic_shared", key.dynamic_shared);
  j.number("blocks", blocks);
  j.number("blocks_counted", t.blocks_counted);
  j.number("barriers", t.barriers);
  j.number("shuffles", t.shuffles);
  j.number("votes", t.votes);
  j.number("warp_syncs", t.warp_syncs);
  j.number("matrix_loads", t.matrix_loads);
  j.key("matrix_multiplies");
  j.open('{');
  const char* const names[] = {"m16n8k16_bf16", "m16n8k16_f16", "m16n8k8_f16", "m16n8k8_tf32"};
  for (int i = 0; i < 4; ++i)
    if (t.matrix_multiplies[i]) j.number(names[i], t.matrix_multiplies[i]);
  if (t.warpgroup_multiplies) j.number("wgmma", t.warpgroup_multiplies / 4);  // four warps make one
  j.close('}');

  std::map<LineKey, SiteCounts> by_line;
  std::map<std::pair<bool, Action>, SiteCounts> sums;
#if defined(WARPLOOM_LAB)
  std::map<LineKey, std::string> shown;
#endif
  for (const auto& s : k.sites) {
    const bool shared = s.first >> 44 & 1;
    const Action action = static_cast<Action>(s.first >> 41 & 7);
    const SourceLine& line = lines[static_cast<uint32_t>(s.first)];
    const std::string file = line.file.empty() ? line.instead : line.file;
    const LineKey at{file, line.line, line.function, shared, action, static_cast<uint32_t>(s.first >> 32 & 0x1ff)};
    add(by_line[at], s.second);
#if defined(WARPLOOM_LAB)
    if (shown[at].empty()) shown[at] = kept_request(s.first);
#endif
    add(sums[{shared, action}], s.second);
  }
  for (const bool shared : {false, true}) {
    j.key(shared ? "shared" : "global");
    j.open('{');
    for (const Action a : {Action::load, Action::store, Action::atomic, Action::copy}) {
      j.key(action_name(a));
      j.open('{');
      put(j, sums[{shared, a}], shared);
      j.close('}');
    }
    j.close('}');
  }
  uint64_t visits = 0, lanes = 0, branches = 0, divergent = 0;
  std::map<std::tuple<std::string, int, std::string>, std::pair<uint64_t, uint64_t>> partings;
  for (const auto& b : k.blocks) {
    visits += b.second.visits;
    lanes += b.second.lanes;
    if (!b.second.otherwise) continue;
    branches += b.second.visits;
    divergent += b.second.divergent;
    if (!b.second.divergent) continue;
    const SourceLine& line = parting(lines, b.second);
    auto& sum = partings[{line.file.empty() ? line.instead : line.file, line.line, line.function}];
    sum.first += b.second.visits;
    sum.second += b.second.divergent;
  }
#if defined(WARPLOOM_LAB)
  j.number("warpgroup_flops", t.warpgroup_flops);
  j.key("code");  // of each basic block: where the call is that counts it, and the lanes that ran it
  j.open('[');
  for (const auto& b : k.blocks) {
    j.open('[');
    j.number_in_list(static_cast<uint32_t>(b.first) >> 2);
    j.number_in_list(b.second.lanes);
    j.close(']');
  }
  j.close(']');
#endif
  j.number("basic_blocks", visits);
  j.number("basic_block_lanes", lanes);
  j.number("branches", branches);
  j.number("divergent_branches", divergent);
  j.key("lines");
  j.open('[');
  for (const auto& l : by_line) {
    j.open('{');
    j.string("file", l.first.file);
    j.number("line", static_cast<uint64_t>(l.first.line));
    j.string("function", l.first.function);
    j.string("space", l.first.shared ? "shared" : "global");
    j.string("action", action_name(l.first.action));
    j.number("access_bytes", l.first.bytes);
    put(j, l.second, l.first.shared);
#if defined(WARPLOOM_LAB)
    if (!shown[l.first].empty()) j.raw("request", shown[l.first]);
#endif
    j.close('}');
  }
  j.close(']');
  j.key("partings");
  j.open('[');
  for (const auto& p : partings) {
    j.open('{');
    j.string("file", std::get<0>(p.first));
    j.number("line", static_cast<uint64_t>(std::get<1>(p.first)));
    j.string("function", std::get<2>(p.first));
    j.number("branches", p.second.first);
    j.number("divergent", p.second.second);
    j.close('}');
  }
  j.close(']');
  j.close('}');
}

std::string report() {
  Whole& all = whole();
  const std::lock_guard<std::mutex> hold(all.lock);
  find_library();
  const Lines lines(all.kernels);
  std::vector<std::pair<const KernelKey*, const Kernel*>> in_order;
  for (const auto& k : all.kernels) in_order.push_back({&k.first, &k.second});
  for (size_t i = 1; i < in_order.size(); ++i)
    for (size_t k = i; k > 0 && in_order[k].second->order < in_order[k - 1].second->order; --k)
      std::swap(in_order[k], in_order[k - 1]);
  Json j;
  j.open('[');
  for (const auto& k : in_order) put(j, *k.first, *k.second, lines);
  j.close(']');
  return j.text;
}

struct FromEnvironment {  // WARPLOOM_COUNT_BLOCKS: count from the start, so many blocks of each launch
  FromEnvironment() {
    const char* text = getenv("WARPLOOM_COUNT_BLOCKS");
    if (!text || !*text) return;
    char* end = nullptr;
    const unsigned long long blocks = strtoull(text, &end, 10);
    if (*end || *text == '-') {
      fprintf(stderr, "WARPLOOM_COUNT_BLOCKS is \"%s\": give a number of blocks per launch, or 0 for all; nothing is counted\n",
              text);
      return;
    }
    count_orders.on = true;
    count_orders.blocks = blocks;
  }
} from_environment;

}  // namespace
}  // namespace emulator
}  // namespace warploom

// "start BLOCKS run|skip CALLS": forgets what was counted, and counts that many blocks of each launch (0: all) of the operations that
// match the pattern CALLS; "skip": what is not counted does not run. "stop". "report": the counts as JSON. Not while a kernel runs.
extern "C" WL_EXPORT const char* warploom_counters(const char* order) {
  using namespace warploom::emulator;
  static std::string answer;
  const std::string words = order;
  answer.clear();
  if (words.compare(0, 6, "start ") == 0) {
    const std::lock_guard<std::mutex> hold(whole().lock);
    whole().kernels.clear();
    const size_t mode = words.find(' ', 6), calls = mode == std::string::npos ? mode : words.find(' ', mode + 1);
    count_orders.blocks = strtoull(words.c_str() + 6, nullptr, 10);
    count_orders.skip_rest = mode != std::string::npos && words.compare(mode + 1, 4, "skip") == 0;
    count_orders.calls = calls == std::string::npos ? "" : words.substr(calls + 1);
    count_orders.on = true;
  } else if (words == "stop") {
    count_orders.on = false;
  } else if (words == "report") {
    answer = report();
  } else {
    answer = "unknown order \"" + words + "\"; give start, stop or report";
  }
  return answer.c_str();
}
#endif
