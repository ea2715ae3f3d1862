// rmsprop - not centred; with momentum and learning-rate dropout where asked for.
#include "csrc/train/optimizer.h"

namespace warploom {
namespace {

class RmspropDef final : public OptimizerDef {
 public:
  const char* name() const override { return "rmsprop"; }
  Hyper defaults() const override {
    return {{"lr", 1e-2}, {"alpha", 0.99}, {"eps", 1e-8}, {"momentum", 0.0}, {"weight_decay", 0.0}, {"lr_keep", 1.0}};
  }
  std::vector<std::string> order() const override { return {"lr", "alpha", "eps", "momentum", "weight_decay", "lr_keep"}; }
  std::vector<std::string> states() const override { return {"square", "velocity"}; }
  bool keeps(const std::string& state, const Hyper& hyper) const override {
    return state != "velocity" || hyper.at("momentum") != 0.0;
  }
  int64_t workspace_bytes(const OpTable& table, int64_t count) const override {
    return workspace_of(table.rmsprop_update, count);
  }
  void update(UpdateCall& c) const override {
    RmspropUpdate a;
    a.step = c.step;
    a.square = c.states[0], a.velocity = c.states[1];
    c.run(c.table.rmsprop_update, "rmsprop_update", a);
  }
};
WL_REGISTER_OPTIMIZER(RmspropDef)

}  // namespace
}  // namespace warploom
