// kl_divergence - of N(mean, exp(log variance)) from N(0, 1): the first half of the output's channels are means, the second half
// logarithms of variances. The sum over a sample's numbers, mean over samples. There is no target.
#include "csrc/train/loss.h"

namespace warploom {
namespace {

class KlDef final : public LossDef {
 public:
  const char* name() const override { return "kl_divergence"; }
  bool takes_target() const override { return false; }
  std::string mask_refusal() const override { return "the loss kl_divergence compares with no target, so it takes no mask"; }
  Shape target_shape(const Shape& output) const override {
    if (output[0] % 2 != 0)
      throw GraphError("the loss kl_divergence needs means and as many logarithms of variances; the output has the shape " +
                       to_text(output));
    return output;
  }
  void emit(LossCall& c) const override {
    const Emitter::Extent extent = c.extent();
    KlLoss a;
    a.rows = extent.outer, a.cols = extent.C / 2 * extent.inner;
    if (c.shape().size() != 3) a.rows = c.emit.batch(), a.cols = count_of(c.shape()) / 2;
    c.call(c.emit.table.kl_loss, "kl_loss", a);
  }
};
WL_REGISTER_LOSS(KlDef)

}  // namespace
}  // namespace warploom
