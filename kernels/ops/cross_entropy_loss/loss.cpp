// cross_entropy - softmax over the channels against class numbers; number: ignore_index; class weights.
#include "csrc/train/loss.h"

namespace warploom {
namespace {

class CrossEntropyDef final : public LossDef {
 public:
  const char* name() const override { return "cross_entropy"; }
  std::map<std::string, double> numbers() const override { return {{"ignore_index", -100.0}}; }
  bool takes_class_weight() const override { return true; }
  std::string mask_refusal() const override { return "cross_entropy takes no mask; use ignore_index"; }
  // The output's without its first axis, the classes; one label for a vector of classes.
  Shape target_shape(const Shape& output) const override {
    return output.size() == 1 ? Shape{1} : Shape(output.begin() + 1, output.end());
  }
  void emit(LossCall& c) const override {
    CrossEntropyLoss a;
    const auto extent = c.extent();
    a.outer = extent.outer, a.C = extent.C, a.inner = extent.inner;
    a.ignore_index = static_cast<int>(c.number("ignore_index"));
    if (c.buffers.class_weight != kNoBuffer) a.class_weight = c.emit.in(c.buffers.class_weight);
    c.call(c.emit.table.cross_entropy_loss, "cross_entropy_loss", a);
  }
};
WL_REGISTER_LOSS(CrossEntropyDef)

}  // namespace
}  // namespace warploom
