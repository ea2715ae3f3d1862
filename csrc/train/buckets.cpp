#include "csrc/train/buckets.h"

#include <algorithm>

namespace warploom {

std::vector<Bucket> make_buckets(const Parameters& parameters, int64_t elements) {
  constexpr int64_t kGrid = 64;  // elements: the parts of a bucket begin where vectors of every width do
  const int64_t all = parameters.trainable_count();
  const int64_t most = elements > 0 ? (elements + kGrid - 1) / kGrid * kGrid : all;
  std::vector<Bucket> buckets;
  for (int64_t end = all; end > 0; end -= most) buckets.push_back({std::max<int64_t>(end - most, 0), std::min(most, end)});
  return buckets;
}

std::vector<size_t> final_after(const Plan& plan, const Parameters& parameters, const std::vector<Bucket>& buckets) {
  std::vector<size_t> steps(buckets.size(), 1);  // what no step writes is final from the start
  for (size_t i = 0; i < plan.steps.size(); i++)
    for (const auto& use : plan.steps[i]->uses) {
      const Buffer& b = plan.buffers[static_cast<size_t>(use.first)];
      if (b.space != Space::weight_gradients) continue;
      const int64_t first = parameters.offset_bytes(static_cast<int>(b.offset)) / 4, end = first + b.bytes / 4;
      for (size_t k = 0; k < buckets.size(); k++)
        if (buckets[k].first < end && first < buckets[k].first + buckets[k].count) steps[k] = i + 1;
    }
  for (size_t k = 1; k < steps.size(); k++) steps[k] = std::max(steps[k], steps[k - 1]);
  return steps;
}

}  // namespace warploom
