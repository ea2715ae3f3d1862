// lion - the sign of an interpolated momentum, with decoupled weight decay.
#include "csrc/train/optimizer.h"

namespace warploom {
namespace {

class LionDef final : public OptimizerDef {
 public:
  const char* name() const override { return "lion"; }
  Hyper defaults() const override { return {{"lr", 1e-4}, {"beta1", 0.9}, {"beta2", 0.99}, {"weight_decay", 0.0}}; }
  std::vector<std::string> order() const override { return {"lr", "beta1", "beta2", "weight_decay"}; }
  std::vector<std::string> states() const override { return {"m"}; }
  int64_t workspace_bytes(const OpTable& table, int64_t count) const override { return workspace_of(table.lion_update, count); }
  void update(UpdateCall& c) const override {
    LionUpdate a;
    a.m = c.states[0];
    c.run(c.table.lion_update, "lion_update", a);
  }
};
WL_REGISTER_OPTIMIZER(LionDef)

}  // namespace
}  // namespace warploom
