// l1, bce_with_logits - means over elements.
#include "csrc/train/loss.h"

#include "csrc/core/names.h"

namespace warploom {
namespace {

class PointwiseDef : public LossDef {
 public:
  explicit PointwiseDef(LossKind kind) : kind_(kind) {}
  const char* name() const override { return name_of(kind_); }
  void emit(LossCall& c) const override {
    PointwiseLoss a;
    a.count = c.count();
    a.kind = kind_;
    c.call(c.emit.table.pointwise_loss, "pointwise_loss", a);
  }

 private:
  LossKind kind_;
};
class L1Def final : public PointwiseDef {
 public:
  L1Def() : PointwiseDef(LossKind::l1) {}
};
class BceWithLogitsDef final : public PointwiseDef {
 public:
  BceWithLogitsDef() : PointwiseDef(LossKind::bce_with_logits) {}
};
WL_REGISTER_LOSS(L1Def)
WL_REGISTER_LOSS(BceWithLogitsDef)

}  // namespace
}  // namespace warploom
