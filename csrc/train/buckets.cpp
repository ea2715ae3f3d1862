#include "csrc/train/buckets.h"

#include <algorithm>

namespace warploom {

namespace {

// Calls with the number of every bucket that holds elements of the parameter.
template <class F>
void visit_buckets_of(const Graph& graph, const Parameters& parameters, const std::vector<Bucket>& buckets, int p,
                      const F& visit) {
  const int64_t first = parameters.offset_bytes(p) / 4, end = first + count_of(graph.parameters[static_cast<size_t>(p)].shape);
  for (size_t k = 0; k < buckets.size(); k++)
    if (buckets[k].first < end && first < buckets[k].first + buckets[k].count) visit(k);
}

}  // namespace

std::vector<Bucket> make_buckets(const Graph& graph, const Parameters& parameters, int64_t elements) {
  constexpr int64_t kGrid = 64;  // elements: the parts of a bucket begin where vectors of every width do
  const int64_t all = parameters.trainable_count();
  const int64_t most = elements > 0 ? (elements + kGrid - 1) / kGrid * kGrid : all;
  std::vector<Bucket> buckets;
  for (int64_t end = all; end > 0; end -= most) buckets.push_back({std::max<int64_t>(end - most, 0), std::min(most, end)});
  std::vector<size_t> finished(buckets.size(), graph.nodes.size());  // the first node in the graph's order that has a part in it
  for (size_t i = graph.nodes.size(); i-- > 0;)
    for (const int p : graph.nodes[i].parameters)
      visit_buckets_of(graph, parameters, buckets, p, [&](size_t k) { finished[k] = i; });
  std::vector<size_t> order(buckets.size());
  for (size_t k = 0; k < order.size(); k++) order[k] = k;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return finished[a] > finished[b]; });
  std::vector<Bucket> sorted;
  for (const size_t k : order) sorted.push_back(buckets[k]);
  return sorted;
}

std::vector<size_t> final_after(const Plan& plan, const Parameters& parameters, const std::vector<Bucket>& buckets) {
  std::vector<size_t> steps(buckets.size(), 1);  // what no step writes is final from the start
  for (size_t i = 0; i < plan.steps.size(); i++)
    for (const auto& use : plan.steps[i]->uses) {
      const Buffer& b = plan.buffers[static_cast<size_t>(use.first)];
      if (b.space != Space::weight_gradients) continue;
      visit_buckets_of(plan.graph, parameters, buckets, static_cast<int>(b.offset), [&](size_t k) { steps[k] = i + 1; });
    }
  for (size_t k = 1; k < steps.size(); k++) steps[k] = std::max(steps[k], steps[k - 1]);
  return steps;
}

}  // namespace warploom
