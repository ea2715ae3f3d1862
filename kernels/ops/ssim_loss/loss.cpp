// ssim - one minus the structural similarity of maps; numbers: window, sigma, c1, c2.
#include "csrc/train/loss.h"

namespace warploom {
namespace {

class SsimDef final : public LossDef {
 public:
  const char* name() const override { return "ssim"; }
  std::map<std::string, double> numbers() const override {
    return {{"window", 11.0}, {"sigma", 1.5}, {"c1", 1e-4}, {"c2", 9e-4}};
  }
  void emit(LossCall& c) const override {
    const Shape& shape = c.shape();
    if (shape.size() != 3) throw GraphError("the loss ssim needs an output of shape C x H x W, got " + to_text(shape));
    SsimLoss a;
    a.N = c.emit.batch(), a.C = shape[0], a.H = shape[1], a.W = shape[2];
    a.layout = c.emit.table.layout;
    a.window = static_cast<int>(c.number("window"));
    a.sigma = static_cast<float>(c.number("sigma"));
    a.c1 = static_cast<float>(c.number("c1")), a.c2 = static_cast<float>(c.number("c2"));
    c.call(c.emit.table.ssim_loss, "ssim_loss", a);
  }
};
WL_REGISTER_LOSS(SsimDef)

}  // namespace
}  // namespace warploom
