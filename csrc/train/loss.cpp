#include "csrc/train/loss.h"

namespace warploom {

void check_loss(const LossSpec& spec) {
  if (spec.kind != "mse") throw GraphError("unknown loss '" + spec.kind + "'; there is mse");
}

void emit_loss(Emitter& e, const LossSpec& spec, int prediction, Handle target, Handle value, Handle total) {
  check_loss(spec);
  MseLoss a;
  a.count = int64_t(e.batch()) * count_of(e.graph().shape(prediction));
  a.samples = e.batch();
  a.weight = spec.weight;
  a.prediction = e.read(prediction);
  a.target = e.in(target);
  if (e.training() && e.wants_gradient(prediction)) a.grad = e.write_gradient(prediction);
  a.loss = e.out(value);
  a.total = e.inout(total);
  e.call(e.table.mse_loss, "mse_loss", nullptr, a);
}

}  // namespace warploom
