// sgd - with momentum, Nesterov's or plain.
#include "csrc/train/optimizer.h"

namespace warploom {
namespace {

class SgdDef final : public OptimizerDef {
 public:
  const char* name() const override { return "sgd"; }
  Hyper defaults() const override { return {{"lr", 1e-3}, {"momentum", 0.0}, {"weight_decay", 0.0}, {"nesterov", 0.0}}; }
  std::vector<std::string> order() const override { return {"lr", "momentum", "weight_decay"}; }
  bool hyper_in_float() const override { return true; }
  std::vector<std::string> states() const override { return {"velocity"}; }
  bool keeps(const std::string&, const Hyper& hyper) const override { return hyper.at("momentum") != 0.0; }
  bool fixed(const std::string& name) const override { return name == "nesterov"; }
  void check(const Hyper& hyper) const override {
    if (hyper.at("nesterov") != 0.0 && hyper.at("momentum") == 0.0) throw GraphError("nesterov needs a momentum above 0");
  }
  int64_t workspace_bytes(const OpTable& table, int64_t count) const override { return workspace_of(table.sgd_update, count); }
  bool is_sgd() const override { return true; }
  void update(UpdateCall& c) const override {
    SgdUpdate a;
    a.nesterov = c.flag("nesterov");
    a.velocity = c.states[0];
    c.run(c.table.sgd_update, "sgd_update", a);
  }
};
WL_REGISTER_OPTIMIZER(SgdDef)

}  // namespace
}  // namespace warploom
