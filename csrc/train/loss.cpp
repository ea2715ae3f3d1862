#include "csrc/train/loss.h"

#include <algorithm>

#include "csrc/core/names.h"
namespace warploom {
namespace {

std::map<std::string, const LossDef*>& loss_defs() {
  static auto* map = new std::map<std::string, const LossDef*>();
  return *map;
}

}  // namespace

void register_loss(const LossDef* loss) { loss_defs()[loss->name()] = loss; }

const LossDef& find_loss(const std::string& kind) {
  const auto found = loss_defs().find(kind);
  if (found == loss_defs().end()) throw GraphError("unknown loss '" + kind + "'; there are " + listed(loss_defs()));
  return *found->second;
}

double LossCall::number(const char* name) const {
  const auto given = spec.numbers.find(name);
  return given != spec.numbers.end() ? given->second : find_loss(spec.kind).numbers().at(name);
}

void check_loss(const LossSpec& spec) {
  const LossDef& def = find_loss(spec.kind);
  const auto known = def.numbers();
  for (const auto& n : spec.numbers)
    if (!known.count(n.first))
      throw GraphError("the loss " + spec.kind + " has no '" + n.first + "'" +
                       (known.empty() ? "" : "; it has " + listed(known)));
  if (!spec.class_weight.empty() && !def.takes_class_weight())
    throw GraphError("the loss " + spec.kind + " takes no class weights");
  if (spec.mask >= 0 && !def.mask_refusal().empty()) throw GraphError(def.mask_refusal());
  if (spec.output < 0 || (def.takes_target() ? spec.target < 0 : spec.target != -1))
    throw GraphError(def.takes_target() ? "a loss needs an output and a target" : "the loss " + spec.kind + " takes no target");
}

std::vector<Shape> target_shapes(const Graph& graph, const std::vector<int>& outputs, const std::vector<LossSpec>& losses) {
  std::vector<Shape> shapes;
  auto want = [&](int target, const Shape& shape) {
    const size_t t = static_cast<size_t>(target);
    if (shapes.size() <= t) shapes.resize(t + 1);
    if (!shapes[t].empty() && shapes[t] != shape)
      throw GraphError("the losses want target " + std::to_string(t) + " in two shapes, " + to_text(shapes[t]) + " and " +
                       to_text(shape));
    shapes[t] = shape;
  };
  for (const LossSpec& l : losses) {
    check_loss(l);
    if (l.output >= static_cast<int>(outputs.size()))
      throw GraphError("the loss names output " + std::to_string(l.output) + ", the graph has " + std::to_string(outputs.size()));
    const Shape& shape = graph.shape(outputs[static_cast<size_t>(l.output)]);
    if (!l.class_weight.empty() && static_cast<int64_t>(l.class_weight.size()) != shape[0])
      throw GraphError("the output has " + std::to_string(shape[0]) + " classes, but " + std::to_string(l.class_weight.size()) +
                       " class weights were given");
    if (l.mask >= 0) {
      if (shape.size() != 3) throw GraphError("a masked loss needs an output of shape C x H x W, got " + to_text(shape));
      want(l.mask, {1, shape[1], shape[2]});
    }
    const Shape wanted = find_loss(l.kind).target_shape(shape);
    if (l.target >= 0) want(l.target, wanted);
  }
  for (size_t t = 0; t < shapes.size(); t++)
    if (shapes[t].empty()) throw GraphError("no loss uses target " + std::to_string(t));
  return shapes;
}

LossLayout::LossLayout(const std::vector<LossSpec>& losses) {
  bytes = 16;  // the total
  for (size_t i = 0; i < losses.size(); i++) value.push_back(bytes), bytes += 4;
  for (const LossSpec& l : losses) {
    bytes = (bytes + 255) / 256 * 256;
    class_weight.push_back(bytes);
    bytes += 4 * static_cast<int64_t>(l.class_weight.size());
  }
  bytes = std::max<int64_t>(bytes, 20);
}

void emit_loss(Emitter& e, const LossSpec& spec, int value, Handle target, Handle mask, const LossBuffers& buffers) {
  check_loss(spec);
  const Node here{nullptr, "loss of " + e.graph().values[static_cast<size_t>(value)].name, {}, {}, {}, {}};
  const int64_t bytes = e.value_bytes(value);
  const bool wants = e.training() && e.wants_gradient(value);
  const bool direct = !spec.sigmoid && mask == kNoBuffer;
  LossCall p(e, spec, value, buffers);
  p.prediction = e.read(value);
  if (target != kNoBuffer) p.target = e.in(target);
  if (wants) p.grad = direct ? e.write_gradient(value) : e.scratch(here, "grad", bytes, Category::gradients);

  In probability;
  if (spec.sigmoid) {
    ActivationForward a;
    a.count = bytes / 4;
    a.kind = Activation::sigmoid;
    a.x = p.prediction;
    a.y = e.scratch(here, "sigmoid", bytes);
    e.call(e.table.activation_forward, "activation_forward", nullptr, a);
    p.prediction = probability = In{a.y.data, a.y.bytes};
  }
  const auto extent = e.extent(value);
  auto masked = [&](In x, const char* name) {
    MultiplyForward a;
    a.outer = extent.outer, a.C = extent.C, a.inner = extent.inner, a.b_channels = 1;
    a.a = x;
    a.b = e.in(mask);
    a.y = e.scratch(here, name, bytes);
    e.call(e.table.multiply_forward, "multiply_forward", nullptr, a);
    return In{a.y.data, a.y.bytes};
  };
  if (mask != kNoBuffer) {  // which a loss without a target refuses
    p.prediction = masked(p.prediction, "masked prediction");
    p.target = masked(p.target, "masked target");
  }
  find_loss(spec.kind).emit(p);
  if (!wants || direct) return;

  // Back through what stood before the loss; the last of it writes the gradient of the output.
  In gradient{p.grad.data, p.grad.bytes};
  if (mask != kNoBuffer) {
    MultiplyBackward a;
    a.outer = extent.outer, a.C = extent.C, a.inner = extent.inner, a.b_channels = 1;
    a.dy = gradient;
    a.b = e.in(mask);
    a.da = spec.sigmoid ? e.scratch(here, "unmasked grad", bytes, Category::gradients) : e.write_gradient(value);
    e.call(e.table.multiply_backward, "multiply_backward", nullptr, a);
    gradient = In{a.da.data, a.da.bytes};
  }
  if (spec.sigmoid) {
    ActivationBackward a;
    a.count = bytes / 4;
    a.kind = Activation::sigmoid;
    a.dy = gradient;
    a.y = probability;
    a.dx = e.write_gradient(value);
    e.call(e.table.activation_backward, "activation_backward", nullptr, a);
  }
}

}  // namespace warploom
