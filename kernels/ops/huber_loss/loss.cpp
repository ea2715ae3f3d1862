// huber - quadratic up to a difference of delta, linear beyond; number: delta.
#include "csrc/train/loss.h"

namespace warploom {
namespace {

class HuberDef final : public LossDef {
 public:
  const char* name() const override { return "huber"; }
  std::map<std::string, double> numbers() const override { return {{"delta", 1.0}}; }
  void emit(LossCall& c) const override {
    HuberLoss a;
    a.count = c.count();
    a.delta = static_cast<float>(c.number("delta"));
    c.call(c.emit.table.huber_loss, "huber_loss", a);
  }
};
WL_REGISTER_LOSS(HuberDef)

}  // namespace
}  // namespace warploom
