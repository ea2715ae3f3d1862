// errands.h - small work that calls want done before or after them, in fewer launches: weights are prepared for several calls by one
// step, and what they do last is left to one at the end.
#pragma once

#include "csrc/graph/plan.h"

namespace warploom {

struct ErrandStep final : Step {
  explicit ErrandStep(const OpTable& t) : table(t) { entry = "run_errands"; }
  void add(const Errand& e);  // its buffers as handles
  void bind(const Resolve& address) override;
  void run(const Context& context) const override;
  std::string algorithm() const override { return ""; }
  const OpTable& table;
  std::vector<Errand> planned, bound;
  std::vector<int64_t> offsets;  // of what each reads, in its buffer, bytes
};

// Whether WARPLOOM_ERRANDS leaves every call its own: 0, for comparisons. Another value is an UnsupportedError.
bool errands_wanted();

// Where two or more calls prepare their weights, a step before the first of them does it for all, at most kMostErrands: for backward
// one of its own where its weights take kEarlyWeights or more. A training plan's last step does what several calls left to do (sums
// over runs, a loss's mean), while the memory that this keeps takes no more than kRestGrowth from the peak; not where gradients are to
// be final early. Results keep their bits. WARPLOOM_ERRANDS=0 leaves every call its own: for comparisons.
constexpr int64_t kEarlyWeights = int64_t(2) << 20, kRestGrowth = int64_t(1) << 20;
void share_errands(Plan& plan, const OpTable& table, bool gradients_early);

}  // namespace warploom
