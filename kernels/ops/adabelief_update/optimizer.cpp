// adabelief - with bias correction or without, and learning-rate dropout where asked for.
#include "csrc/train/optimizer.h"

namespace warploom {
namespace {

class AdabeliefDef final : public OptimizerDef {
 public:
  const char* name() const override { return "adabelief"; }
  Hyper defaults() const override {
    return {{"lr", 1e-3},          {"beta1", 0.9},   {"beta2", 0.999},        {"eps", 1e-8},
            {"weight_decay", 0.0}, {"lr_keep", 1.0}, {"bias_correction", 1.0}};
  }
  std::vector<std::string> order() const override { return {"lr", "beta1", "beta2", "eps", "weight_decay", "lr_keep"}; }
  std::vector<std::string> states() const override { return {"m", "s"}; }
  bool fixed(const std::string& name) const override { return name == "bias_correction"; }
  int64_t workspace_bytes(const OpTable& table, int64_t count) const override {
    return workspace_of(table.adabelief_update, count);
  }
  void update(UpdateCall& c) const override {
    AdabeliefUpdate a;
    a.bias_correction = c.flag("bias_correction");
    a.step = c.step;
    a.m = c.states[0], a.s = c.states[1];
    c.run(c.table.adabelief_update, "adabelief_update", a);
  }
};
WL_REGISTER_OPTIMIZER(AdabeliefDef)

}  // namespace
}  // namespace warploom
