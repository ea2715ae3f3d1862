// adam, adamw - the second with decoupled weight decay.
#include "csrc/train/optimizer.h"

namespace warploom {
namespace {

class AdamDef : public OptimizerDef {
 public:
  const char* name() const override { return "adam"; }
  Hyper defaults() const override {
    return {{"lr", 1e-3}, {"beta1", 0.9}, {"beta2", 0.999}, {"eps", 1e-8}, {"weight_decay", 0.0}};
  }
  std::vector<std::string> order() const override { return {"lr", "beta1", "beta2", "eps", "weight_decay"}; }
  std::vector<std::string> states() const override { return {"m", "v"}; }
  int64_t workspace_bytes(const OpTable& table, int64_t count) const override { return workspace_of(table.adam_update, count); }
  void update(UpdateCall& c) const override {
    AdamUpdate a;
    a.decoupled = decoupled();
    a.step = c.step;
    a.m = c.states[0], a.v = c.states[1];
    c.run(c.table.adam_update, "adam_update", a);
  }

 private:
  virtual bool decoupled() const { return false; }
};
class AdamwDef final : public AdamDef {
 public:
  const char* name() const override { return "adamw"; }

 private:
  bool decoupled() const override { return true; }
};
WL_REGISTER_OPTIMIZER(AdamDef)
WL_REGISTER_OPTIMIZER(AdamwDef)

}  // namespace
}  // namespace warploom
