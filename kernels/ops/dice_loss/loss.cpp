// dice - one minus the overlap of the whole batch; number: smooth.
#include "csrc/train/loss.h"

namespace warploom {
namespace {

class DiceDef final : public LossDef {
 public:
  const char* name() const override { return "dice"; }
  std::map<std::string, double> numbers() const override { return {{"smooth", 1e-6}}; }
  void emit(LossCall& c) const override {
    DiceLoss a;
    a.count = c.count();
    a.smooth = static_cast<float>(c.number("smooth"));
    c.call(c.emit.table.dice_loss, "dice_loss", a);
  }
};
WL_REGISTER_LOSS(DiceDef)

}  // namespace
}  // namespace warploom
