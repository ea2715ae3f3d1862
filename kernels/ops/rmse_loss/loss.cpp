// rmse - the root of the mean squared difference; number: eps.
#include "csrc/train/loss.h"

namespace warploom {
namespace {

class RmseDef final : public LossDef {
 public:
  const char* name() const override { return "rmse"; }
  std::map<std::string, double> numbers() const override { return {{"eps", 0.0}}; }
  void emit(LossCall& c) const override {
    RmseLoss a;
    a.count = c.count();
    a.eps = static_cast<float>(c.number("eps"));
    c.call(c.emit.table.rmse_loss, "rmse_loss", a);
  }
};
WL_REGISTER_LOSS(RmseDef)

}  // namespace
}  // namespace warploom
