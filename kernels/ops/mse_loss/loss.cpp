// mse - the mean squared difference.
#include "csrc/train/loss.h"

namespace warploom {
namespace {

class MseDef final : public LossDef {
 public:
  const char* name() const override { return "mse"; }
  void emit(LossCall& c) const override {
    MseLoss a;
    a.count = c.count();
    c.call(c.emit.table.mse_loss, "mse_loss", a);
  }
};
WL_REGISTER_LOSS(MseDef)

}  // namespace
}  // namespace warploom
