#include "csrc/graph/errands.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <set>

#include "csrc/core/errors.h"

namespace warploom {
bool errands_wanted() {
  const char* text = std::getenv("WARPLOOM_ERRANDS");
  if (!text || !*text) return true;
  if (std::string(text) != "0")
    throw UnsupportedError("WARPLOOM_ERRANDS is \"" + std::string(text) +
                           "\"; expected 0, or nothing: small work of several calls is done at once");
  return false;
}

namespace {

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

// Whether all that a step reads or writes begins at a multiple of 16 bytes: only then may it be given memory in a form of its own.
bool is_aligned(const Plan& plan, const Step& step) {
  return std::all_of(step.uses.begin(), step.uses.end(), [&](const auto& use) {
    int64_t offset = 0;
    for (Handle h = use.first; plan.buffers[static_cast<size_t>(h)].parent != kNoBuffer;
         h = plan.buffers[static_cast<size_t>(h)].parent)
      offset += plan.buffers[static_cast<size_t>(h)].offset;
    return offset % 16 == 0;
  });
}

std::vector<Group> groups_of(const Plan& plan) {
  const std::set<Handle> fixed = fixed_weights(plan);
  std::vector<Group> groups;
  int64_t late = 0;  // bytes for backward
  for (const auto& step : plan.steps)
    if (step->backward) late += step->preparation().to.bytes;
  for (size_t i = 0; i < plan.steps.size(); i++) {
    const Errand e = plan.steps[i]->preparation();
    if (e.kind == ErrandKind::none || !fixed.count(untag(e.from.data)) || !is_aligned(plan, *plan.steps[i])) continue;
    const bool fits = !groups.empty() && groups.back().size() < static_cast<size_t>(kMostErrands) &&
                      (late < kEarlyWeights || plan.steps[groups.back()[0]]->backward == plan.steps[i]->backward);
    if (!fits) groups.emplace_back();
    groups.back().push_back(i);
  }
  return groups;
}

std::string named(std::string what, const std::vector<std::string>& of) {
  for (size_t i = 0; i < of.size(); i++) what += (i ? ", " : "") + of[i];
  return what;
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
  auto step = std::make_unique<ErrandStep>(table);
  const size_t at = group[0];
  step->backward = plan.steps[at]->backward;
  step->node = plan.steps[at]->node;
  std::vector<std::pair<Handle, int>> made;  // and their last readers
  std::vector<std::string> of;
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
      if (std::find(of.begin(), of.end(), reader.node) == of.end()) of.push_back(reader.node);
      made.push_back({h, 0});
    }
    set_workspace(plan, reader, reader.take_prepared(In{e.to.data, e.to.bytes}));
    for (auto& [handle, last] : made)
      if (handle == untag(e.to.data)) last = static_cast<int>(i) + 1;
  }
  step->along = named("weights of ", of);
  insert_step(plan, at, std::move(step));
  for (const auto& [handle, last] : made) {
    buffer(plan, handle).first_step = static_cast<int>(at);
    buffer(plan, handle).last_step = last;
  }
}

// The most bytes alive at a step.
int64_t peak_of(const Plan& plan) {
  const Plan::Peak peak = plan.peak();
  return std::accumulate(std::begin(peak.bytes), std::end(peak.bytes), int64_t(0));
}

// Whether what the rest of step i writes is read or written after it: a sum of two gradients, another loss in the same total.
bool others_touch(const Plan& plan, size_t i, const Rest& rest, const ErrandStep& made) {
  const auto touches = [&](const Step& step) {
    return std::any_of(step.uses.begin(), step.uses.end(), [&](const auto& use) {
      return std::any_of(rest.list, rest.list + rest.count, [&](const Errand& e) {
        return use.first == untag(e.to.data) || (e.total && use.first == untag(e.total.data));
      });
    });
  };
  for (size_t j = i + 1; j < plan.steps.size(); j++)
    if (touches(*plan.steps[j])) return true;
  return touches(made);
}

// The last step of the plan, with the rests of the calls before it; those late in backward first, since theirs take memory for the
// shortest time.
void leave_rests(Plan& plan, const OpTable& table) {
  auto made = std::make_unique<ErrandStep>(table);
  made->backward = true;
  const int last = static_cast<int>(plan.steps.size());
  const int64_t most = peak_of(plan) + kRestGrowth;
  std::vector<std::string> of;
  for (size_t i = plan.steps.size(); i-- > 0;) {
    Step& step = *plan.steps[i];
    Rest rest = step.rest();
    if (!rest.count || !is_aligned(plan, step) || others_touch(plan, i, rest, *made) ||
        made->planned.size() + static_cast<size_t>(rest.count) > static_cast<size_t>(kMostErrands))
      continue;
    Buffer b;
    b.name = (step.node.empty() ? step.entry : step.node + "." + step.entry) + " sums";
    b.bytes = rest.bytes;
    b.category = Category::workspace;
    b.first_step = static_cast<int>(i), b.last_step = last - 1;  // until the step is there, for the peak
    plan.buffers.push_back(b);
    const Handle h = static_cast<Handle>(plan.buffers.size()) - 1;
    const int64_t before = step.workspace == kNoBuffer ? 0 : buffer(plan, step.workspace).bytes;
    if (before) buffer(plan, step.workspace).bytes = step.workspace_after_rest();
    if (peak_of(plan) > most) {
      plan.buffers.pop_back();
      if (before) buffer(plan, step.workspace).bytes = before;
      continue;
    }
    buffer(plan, h).last_step = last;
    set_workspace(plan, step, step.workspace_after_rest());
    step.leave_rest(Out{tag(h), rest.bytes});
    for (int k = 0; k < rest.count; k++) {
      Errand e = rest.list[k];
      made->offsets.push_back(reinterpret_cast<intptr_t>(e.from.data));
      e.from.data = tag(h);
      made->add(e);
    }
    of.insert(of.begin(), step.node.empty() ? step.entry : step.node);
  }
  if (of.empty()) return;
  made->along = named("rest of ", of);
  plan.steps.push_back(std::move(made));
  plan.rests = true;
}

}  // namespace

void ErrandStep::add(const Errand& e) {
  planned.push_back(e);
  offsets.resize(planned.size(), 0);
  uses.push_back({untag(e.from.data), Region{"from", nullptr, e.from.bytes, Region::read}});
  uses.push_back({untag(e.to.data), Region{"to", nullptr, e.to.bytes, Region::write}});
  if (e.total) uses.push_back({untag(e.total.data), Region{"total", nullptr, e.total.bytes, Region::read_write}});
}

void ErrandStep::bind(const Resolve& address) {
  bound = planned;
  for (size_t i = 0; i < bound.size(); i++) {
    Errand& e = bound[i];
    e.from.data = address(untag(e.from.data)) + offsets[i];
    e.to.data = address(untag(e.to.data));
    if (e.total) e.total.data = address(untag(e.total.data));
  }
  bind_regions(address);
}

void ErrandStep::run(const Context& context) const {
  table.run_errands(bound.data(), static_cast<int>(bound.size()), nullptr, context);
}

void share_errands(Plan& plan, const OpTable& table, bool gradients_early) {
  if (!table.run_errands || !errands_wanted()) return;
  const std::vector<Group> groups = groups_of(plan);
  for (size_t g = groups.size(); g-- > 0;)  // the last first: the others keep their numbers
    if (groups[g].size() > 1) prepare_together(plan, table, groups[g]);
  // Shards that meet end in pieces, whose losses are read before the last.
  if (plan.training && !gradients_early && plan.meetings.empty()) leave_rests(plan, table);
}

}  // namespace warploom
