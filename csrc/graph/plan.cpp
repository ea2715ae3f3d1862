#include "csrc/graph/plan.h"

#include <algorithm>
#include <numeric>

#include "csrc/core/checked.h"

namespace warploom {

namespace {
constexpr int64_t kAlignment = 256;
int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
}  // namespace

const char* name_of(Category c) {
  static const char* const names[] = {"activations", "gradients", "saved", "workspace", "persistent"};
  return names[static_cast<int>(c)];
}

void Step::bind_regions(const Resolve& address) {
  regions.clear();
  for (const auto& [handle, use] : uses) {
    Region r = use;
    r.data = address(handle);
    bool merged = false;
    for (auto& old : regions) {  // in place: one region that is read and written
      if (old.data != r.data) continue;
      if (old.role != r.role) old.role = Region::read_write;
      merged = true;
    }
    if (!merged) regions.push_back(r);
  }
  if (workspace == kNoBuffer) return;
  workspace_memory.data = address(workspace);
  regions.push_back({"workspace", workspace_memory.data, workspace_memory.bytes, Region::write});
}

void insert_step(Plan& plan, size_t at, std::unique_ptr<Step> step) {
  const int index = static_cast<int>(at);
  for (Buffer& b : plan.buffers) {
    if (b.last_step >= index) b.last_step++;
    if (b.first_step >= index) b.first_step++;
  }
  for (const auto* fed : {&plan.inputs, &plan.targets})  // before the first step
    for (const Handle h : *fed) plan.buffers[static_cast<size_t>(h)].first_step = 0;
  for (Meeting& m : plan.meetings)
    if (m.steps > at) m.steps++;
  plan.steps.insert(plan.steps.begin() + index, std::move(step));
}

// Each buffer in turn at the lowest offset free over its whole life.
static void place_in(Plan& plan, const std::vector<size_t>& order) {
  std::vector<size_t> placed;
  plan.arena_bytes = 0;
  for (const size_t i : order) {
    Buffer& b = plan.buffers[i];
    std::vector<std::pair<int64_t, int64_t>> taken;  // [begin, end) of placed buffers alive at the same time
    for (const size_t j : placed) {
      const Buffer& other = plan.buffers[j];
      if (other.first_step <= b.last_step && b.first_step <= other.last_step)
        taken.push_back({other.offset, other.offset + aligned(other.bytes)});
    }
    std::sort(taken.begin(), taken.end());
    int64_t offset = 0;
    for (const auto& t : taken) {
      if (offset + aligned(b.bytes) <= t.first) break;
      offset = std::max(offset, t.second);
    }
    b.offset = offset;
    plan.arena_bytes = std::max(plan.arena_bytes, offset + aligned(b.bytes));
    placed.push_back(i);
  }
}

// The largest buffer first; or, where that takes less (a workspace may be the largest, and live for one step), those first that live
// longest. Where either leaves more than a fiftieth of the peak of live bytes in holes, what stands topmost goes first, several times
// over; from there, from bytes times steps, and from the size. Within two percent of that peak on the networks here (the report shows
// the difference), and simple enough to trust.
void assign_offsets(Plan& plan) {
  std::vector<size_t> order;
  Checked all = 0;
  for (size_t i = 0; i < plan.buffers.size(); i++) {
    const Buffer& b = plan.buffers[i];
    if (b.space != Space::arena || b.first_step < 0 || b.parent != kNoBuffer) continue;
    order.push_back(i);
    all += aligned(b.bytes);
  }
  plan.arena_bytes_without_reuse = all.bytes("the sum of all buffers");  // so no offset can overflow either
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return plan.buffers[a].bytes > plan.buffers[b].bytes; });
  const auto life = [&](size_t i) { return plan.buffers[i].last_step - plan.buffers[i].first_step; };
  const auto area = [&](size_t i) { return static_cast<double>(plan.buffers[i].bytes) * (1 + life(i)); };
  std::vector<size_t> by_life = order, by_area = order;
  std::stable_sort(by_life.begin(), by_life.end(), [&](size_t a, size_t b) { return life(a) > life(b); });
  std::stable_sort(by_area.begin(), by_area.end(), [&](size_t a, size_t b) { return area(a) > area(b); });
  place_in(plan, order);
  int64_t least = plan.arena_bytes, peak = 0;
  for (const size_t i : order) {
    int64_t live = 0;
    for (const size_t j : order) {
      const Buffer& b = plan.buffers[j];
      const int step = plan.buffers[i].first_step;
      if (b.first_step <= step && step <= b.last_step) live += aligned(b.bytes);
    }
    peak = std::max(peak, live);
  }
  bool enough = order.empty();
  for (std::vector<size_t> tried : {by_life, by_area, order})
    for (int tries = 0; tries < 12 && !enough; tries++) {
      place_in(plan, tried);
      if (plan.arena_bytes < least) least = plan.arena_bytes, order = tried;
      enough = least <= peak + peak / 50;
      const auto top = std::max_element(tried.begin(), tried.end(), [&](size_t a, size_t b) {
        const Buffer &x = plan.buffers[a], &y = plan.buffers[b];
        return x.offset + aligned(x.bytes) < y.offset + aligned(y.bytes);
      });
      std::rotate(tried.begin(), top, top + 1);
    }
  place_in(plan, order);
  for (Buffer& b : plan.buffers) {
    if (b.parent == kNoBuffer) continue;
    Handle root = b.parent;
    int64_t offset = b.offset;
    for (; plan.buffers[static_cast<size_t>(root)].parent != kNoBuffer; root = plan.buffers[static_cast<size_t>(root)].parent)
      offset += plan.buffers[static_cast<size_t>(root)].offset;
    b.offset = offset + plan.buffers[static_cast<size_t>(root)].offset;
    b.parent = kNoBuffer;
    b.part = true;
  }
}

Plan::Peak Plan::peak() const {
  const size_t count = steps.size();
  std::vector<std::vector<const Buffer*>> begins(count), ends(count);  // by step: whose life begins there, whose ended before it
  for (const auto& b : buffers) {
    if (b.space != Space::arena || b.part || b.first_step < 0 || static_cast<size_t>(b.first_step) >= count) continue;
    begins[static_cast<size_t>(b.first_step)].push_back(&b);
    if (static_cast<size_t>(b.last_step) + 1 < count) ends[static_cast<size_t>(b.last_step) + 1].push_back(&b);
  }
  Peak best, now;
  int64_t best_bytes = -1, sum = 0;
  for (size_t s = 0; s < count; s++) {
    now.step = static_cast<int>(s);
    for (const Buffer* b : begins[s]) now.bytes[static_cast<int>(b->category)] += aligned(b->bytes), sum += aligned(b->bytes);
    for (const Buffer* b : ends[s]) now.bytes[static_cast<int>(b->category)] -= aligned(b->bytes), sum -= aligned(b->bytes);
    if (sum > best_bytes) best = now, best_bytes = sum;
  }
  return best;
}

}  // namespace warploom
