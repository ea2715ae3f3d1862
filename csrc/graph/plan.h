// plan.h - a graph bound to a version, a batch size and losses: every buffer has an offset, every step is one kernel call.
//
// While a plan is made, the `data` of an In/Out holds a buffer handle instead of an address (see tag()); bind() puts the address
// there once the arena exists. A plan owns no memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "csrc/core/visitors.h"
#include "csrc/graph/graph.h"

namespace warploom {

using Handle = int;  // index into Plan::buffers
constexpr Handle kNoBuffer = -1;

enum class Space {
  arena,
  weights,
  weight_gradients,
  loss,
  steps  // how many steps the optimizer has taken, i32
};  // arena: offsets by liveness; the others live as long as the session
enum class Category { activations, gradients, saved, workspace, persistent };
const char* name_of(Category c);

struct Buffer {
  std::string name;
  int64_t bytes = 0;
  DType type = DType::f32;  // of a map and its gradient
  Space space = Space::arena;
  Category category = Category::activations;
  int64_t offset = 0;  // within its space; of a part (parent given): within the parent until offsets are assigned
  bool part = false;   // was one: its memory is counted with the whole
  Handle parent = -1;  // the buffer that this one is a part of
  int first_step = -1, last_step = -1;  // the steps between which its contents matter
};

inline void* tag(Handle h) { return reinterpret_cast<void*>(static_cast<intptr_t>(h) + 1); }
inline Handle untag(const void* data) { return static_cast<Handle>(reinterpret_cast<intptr_t>(data)) - 1; }

using Resolve = std::function<char*(Handle)>;

struct Step {
  virtual ~Step() = default;
  virtual void bind(const Resolve& address) = 0;
  virtual void run(const Context& context) const = 0;
  virtual std::string algorithm() const = 0;         // of the entry, where it has several
  virtual Errand preparation() const { return {}; }  // of its weights (Entry::preparation)
  virtual int64_t take_prepared(In) { return 0; }  // weights that another step has prepared; the workspace that is left, in bytes
  virtual Rest rest() const { return {}; }         // what it does last (Entry::rest)
  virtual int64_t workspace_after_rest() const { return 0; }  // bytes that it would still want if it left that to another step
  virtual void leave_rest(Out) {}                             // does so, with memory for it
  std::string entry, node;
  std::string along;  // what it takes along of other operations, for reports
  bool backward = false;
  Fusion fusion;
  std::vector<std::pair<Handle, Region>> uses;  // named after the argument; addresses are filled in by bind()
  Handle workspace = kNoBuffer;
  InOut workspace_memory;
  std::vector<Region> regions;  // what the step may touch, for devices that check

 protected:
  void bind_regions(const Resolve& address);
};

// Where the shards of a batch, each in a run of a plan, wait for each other: a shard's numbers stand in the buffer, and those of all
// take their place before the steps go on.
struct Meeting {
  size_t steps = 0;  // before it
  Handle numbers = kNoBuffer;
  bool backward = false;
};

struct Plan {
  int batch = 0;
  int place = -1;  // of a shard among those that meet, which the session computes side by side; -1: no shards meet
  bool training = false;
  bool eval_mode = false;  // training with the running statistics of normalisations, and nothing dropped
  uint64_t seed = 0;       // of what steps draw
  Graph graph;             // after the passes
  std::vector<Buffer> buffers;
  std::vector<std::unique_ptr<Step>> steps;
  std::vector<Meeting> meetings;
  std::vector<Handle> inputs, targets, outputs;  // device buffers: inputs and targets in the version's layout, outputs in NCHW
  std::vector<std::string> refusals;             // fusions the kernel set refused, with its reasons
  bool rests = false;                            // the last step is an ErrandStep: what other steps left to do
  int64_t arena_bytes = 0;
  int64_t arena_bytes_without_reuse = 0;

  struct Peak {
    int step = -1;
    int64_t bytes[static_cast<int>(Category::persistent)] = {};
  };
  Peak peak() const;  // what is alive at the fullest step, by category
};

// A step before step `at`, whose buffers live as they did.
void insert_step(Plan& plan, size_t at, std::unique_ptr<Step> step);

// Gives every arena buffer an offset such that buffers alive at the same time do not overlap; sets arena_bytes.
void assign_offsets(Plan& plan);

template <class Args, class = void>
struct TakesPrepared : std::false_type {};
template <class Args>
struct TakesPrepared<Args, std::void_t<decltype(Args::prepared)>> : std::true_type {};

template <class Args, class = void>
struct LeavesRest : std::false_type {};
template <class Args>
struct LeavesRest<Args, std::void_t<decltype(Args::sums)>> : std::is_same<decltype(Args::sums), Out> {};

template <class Args>
struct CallStep final : Step {
  CallStep(const Entry<Args>& e, const Args& a) : entry_point(e), planned(a) { list_uses(); }
  void list_uses() {
    uses.clear();
    visit_buffers(planned, [this](const char* name, const auto& buffer, Region::Role role) {
      uses.push_back({untag(buffer.data), Region{name, nullptr, buffer.bytes, role}});
    });
  }
  int64_t workspace_bytes() const { return entry_point.workspace_bytes ? entry_point.workspace_bytes(planned) : 0; }
  void bind(const Resolve& address) override {
    bound = planned;
    visit_buffers(bound, [&](const char*, auto& buffer, Region::Role) { buffer.data = address(untag(buffer.data)); });
    bind_regions(address);
  }
  void run(const Context& context) const override { entry_point.run(bound, context); }
  std::string algorithm() const override { return entry_point.algorithm ? entry_point.algorithm(planned) : ""; }
  Errand preparation() const override { return entry_point.preparation ? entry_point.preparation(planned) : Errand(); }
  int64_t take_prepared(In weights) override {
    if constexpr (TakesPrepared<Args>::value) {
      planned.prepared = weights;
      list_uses();
    }
    return workspace_bytes();
  }
  Rest rest() const override { return entry_point.rest ? entry_point.rest(planned) : Rest(); }
  int64_t workspace_after_rest() const override {
    if constexpr (LeavesRest<Args>::value) {
      Args without = planned;
      without.sums = Out{tag(0), rest().bytes};
      return entry_point.workspace_bytes ? entry_point.workspace_bytes(without) : 0;
    }
    return workspace_bytes();
  }
  void leave_rest(Out sums) override {
    if constexpr (LeavesRest<Args>::value) {
      const Rest left = rest();
      visit_buffers(planned, [&](const char*, auto& buffer, Region::Role) {
        for (int i = 0; i < left.count; i++)
          if (buffer.data == left.list[i].to.data || buffer.data == left.list[i].total.data) buffer = {};
      });
      planned.sums = sums;
      list_uses();
    }
  }
  Entry<Args> entry_point;
  Args planned, bound;
};

}  // namespace warploom
