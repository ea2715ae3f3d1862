#include "csrc/graph/errands.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "csrc/core/errors.h"

namespace warploom {
namespace {

bool errands_wanted() {
  const char* text = std::getenv("WARPLOOM_ERRANDS");
  if (!text || !*text) return true;
  if (std::string(text) != "0")
    throw UnsupportedError("WARPLOOM_ERRANDS is \"" + std::string(text) +
                           "\"; expected 0, or nothing: weights are prepared for several calls at once");
  return false;
}

struct ErrandStep final : Step {
  explicit ErrandStep(void (*e)(const Errand*, int, const Context&)) : run_errands(e) { entry = "run_errands"; }
  void add(const Errand& e) {
    planned.push_back(e);
    uses.push_back({untag(e.from.data), Region{"w", nullptr, e.from.bytes, Region::read}});
    uses.push_back({untag(e.to.data), Region{"prepared", nullptr, e.to.bytes, Region::write}});
  }
  void bind(const Resolve& address) override {
    bound = planned;
    for (Errand& e : bound) e.from.data = address(untag(e.from.data)), e.to.data = address(untag(e.to.data));
    bind_regions(address);
  }
  void run(const Context& context) const override { run_errands(bound.data(), static_cast<int>(bound.size()), context); }
  std::string algorithm() const override { return ""; }
  void (*run_errands)(const Errand*, int, const Context&);
  std::vector<Errand> planned, bound;
};

// The buffers of parameters that no step changes.
std::set<Handle> fixed_weights(const Plan& plan) {
  std::set<Handle> fixed;
  for (size_t h = 0; h < plan.buffers.size(); h++)
    if (plan.buffers[h].space == Space::weights) fixed.insert(static_cast<Handle>(h));
  for (const auto& step : plan.steps)
    for (const auto& [handle, use] : step->uses)
      if (use.role != Region::read) fixed.erase(handle);
  return fixed;
}

using Group = std::vector<size_t>;  // steps that one launch prepares weights for, in order

std::vector<Group> groups_of(const Plan& plan) {
  const std::set<Handle> fixed = fixed_weights(plan);
  std::vector<Group> groups;
  for (size_t i = 0; i < plan.steps.size(); i++) {
    const Errand e = plan.steps[i]->preparation();
    if (e.kind == ErrandKind::none || !fixed.count(untag(e.from.data))) continue;
    const bool fits = !groups.empty() && groups.back().size() < static_cast<size_t>(kMostErrands) &&
                      plan.steps[groups.back()[0]]->backward == plan.steps[i]->backward;
    if (!fits) groups.emplace_back();
    groups.back().push_back(i);
  }
  return groups;
}

Buffer& buffer(Plan& plan, Handle h) { return plan.buffers[static_cast<size_t>(h)]; }

void set_workspace(Plan& plan, Step& step, int64_t bytes) {
  if (step.workspace == kNoBuffer) return;
  step.workspace_memory.bytes = buffer(plan, step.workspace).bytes = bytes;
  if (bytes > 0) return;
  buffer(plan, step.workspace).first_step = -1;  // no place
  step.workspace = kNoBuffer;
}

void prepare_together(Plan& plan, const OpTable& table, const Group& group) {
  auto step = std::make_unique<ErrandStep>(table.run_errands);
  const size_t at = group[0];
  step->backward = plan.steps[at]->backward;
  step->node = plan.steps[at]->node;
  std::vector<std::pair<Handle, int>> made;  // and their last readers
  for (const size_t i : group) {
    Step& reader = *plan.steps[i];
    Errand e = reader.preparation();
    const auto same = std::find(step->planned.begin(), step->planned.end(), e);
    if (same != step->planned.end()) {
      e.to = same->to;
    } else {
      Buffer b;
      b.name = reader.node + "." + reader.entry + " weights";
      b.bytes = e.to.bytes;
      b.category = Category::workspace;
      plan.buffers.push_back(b);
      const Handle h = static_cast<Handle>(plan.buffers.size()) - 1;
      e.to.data = tag(h);
      step->add(e);
      step->along += (made.empty() ? "weights of " : ", ") + reader.node;
      made.push_back({h, 0});
    }
    set_workspace(plan, reader, reader.take_prepared(In{e.to.data, e.to.bytes}));
    for (auto& [handle, last] : made)
      if (handle == untag(e.to.data)) last = static_cast<int>(i) + 1;
  }
  insert_step(plan, at, std::move(step));
  for (const auto& [handle, last] : made) {
    buffer(plan, handle).first_step = static_cast<int>(at);
    buffer(plan, handle).last_step = last;
  }
}

}  // namespace

void share_errands(Plan& plan, const OpTable& table) {
  if (!table.run_errands || !errands_wanted()) return;
  const std::vector<Group> groups = groups_of(plan);
  for (size_t g = groups.size(); g-- > 0;)  // the last first: the others keep their numbers
    if (groups[g].size() > 1) prepare_together(plan, table, groups[g]);
}

}  // namespace warploom
