#include "csrc/train/loss.h"

#include <algorithm>
#include <set>

namespace warploom {
namespace {

const std::map<std::string, std::set<std::string>>& loss_kinds() {  // and the numbers each takes
  static const std::map<std::string, std::set<std::string>> k = {
      {"mse", {}},
      {"l1", {}},
      {"bce_with_logits", {}},
      {"rmse", {"eps"}},
      {"dice", {"smooth"}},
      {"cross_entropy", {"ignore_index"}},
      {"ssim", {"window", "sigma", "c1", "c2"}},
  };
  return k;
}

template <class Range, class Name>
std::string listed(const Range& range, Name&& name) {
  std::string s;
  for (const auto& item : range) s += (s.empty() ? "" : ", ") + name(item);
  return s;
}

float number(const LossSpec& spec, const char* name, double fallback) {
  const auto found = spec.numbers.find(name);
  return static_cast<float>(found == spec.numbers.end() ? fallback : found->second);
}

struct Problem {  // what every loss is given
  In prediction, target;
  Out grad;
  const LossBuffers& buffers;
};

template <class Args>
void finish(Emitter& e, const LossSpec& spec, const Problem& p, const Entry<Args>& entry, const char* name, Args& a) {
  a.samples = e.batch();
  a.weight = spec.weight;
  a.prediction = p.prediction, a.target = p.target;
  a.grad = p.grad;
  a.loss = e.out(p.buffers.value);
  a.total = e.inout(p.buffers.total);
  e.call(entry, name, nullptr, a);
}

void emit_kind(Emitter& e, const LossSpec& spec, int value, const Problem& p) {
  const Shape& shape = e.graph().shape(value);
  const int64_t count = int64_t(e.batch()) * count_of(shape);
  const auto extent = e.extent(value);
  if (spec.kind == "mse") {
    MseLoss a;
    a.count = count;
    finish(e, spec, p, e.table.mse_loss, "mse_loss", a);
  } else if (spec.kind == "l1" || spec.kind == "bce_with_logits") {
    PointwiseLoss a;
    a.count = count;
    a.kind = spec.kind == "l1" ? LossKind::l1 : LossKind::bce_with_logits;
    finish(e, spec, p, e.table.pointwise_loss, "pointwise_loss", a);
  } else if (spec.kind == "rmse") {
    RmseLoss a;
    a.count = count;
    a.eps = number(spec, "eps", 0.0);
    finish(e, spec, p, e.table.rmse_loss, "rmse_loss", a);
  } else if (spec.kind == "dice") {
    DiceLoss a;
    a.count = count;
    a.smooth = number(spec, "smooth", 1e-6);
    finish(e, spec, p, e.table.dice_loss, "dice_loss", a);
  } else if (spec.kind == "cross_entropy") {
    CrossEntropyLoss a;
    a.outer = extent.outer, a.C = extent.C, a.inner = extent.inner;
    a.ignore_index = static_cast<int>(number(spec, "ignore_index", -100));
    if (p.buffers.class_weight != kNoBuffer) a.class_weight = e.in(p.buffers.class_weight);
    finish(e, spec, p, e.table.cross_entropy_loss, "cross_entropy_loss", a);
  } else {
    if (shape.size() != 3) throw GraphError("the loss ssim needs an output of shape C x H x W, got " + to_text(shape));
    SsimLoss a;
    a.N = e.batch(), a.C = shape[0], a.H = shape[1], a.W = shape[2];
    a.layout = e.table.layout;
    a.window = static_cast<int>(number(spec, "window", 11));
    a.sigma = number(spec, "sigma", 1.5);
    a.c1 = number(spec, "c1", 1e-4), a.c2 = number(spec, "c2", 9e-4);
    finish(e, spec, p, e.table.ssim_loss, "ssim_loss", a);
  }
}

}  // namespace

void check_loss(const LossSpec& spec) {
  const auto found = loss_kinds().find(spec.kind);
  if (found == loss_kinds().end())
    throw GraphError("unknown loss '" + spec.kind + "'; there are " +
                     listed(loss_kinds(), [](const auto& k) { return k.first; }));
  for (const auto& n : spec.numbers)
    if (!found->second.count(n.first))
      throw GraphError("the loss " + spec.kind + " has no '" + n.first + "'" +
                       (found->second.empty() ? "" : "; it has " + listed(found->second, [](const auto& s) { return s; })));
  if (!spec.class_weight.empty() && spec.kind != "cross_entropy")
    throw GraphError("the loss " + spec.kind + " takes no class weights");
  if (spec.mask >= 0 && spec.kind == "cross_entropy") throw GraphError("cross_entropy takes no mask; use ignore_index");
  if (spec.output < 0 || spec.target < 0) throw GraphError("a loss needs an output and a target");
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
    Shape shape = graph.shape(outputs[static_cast<size_t>(l.output)]);
    if (!l.class_weight.empty() && static_cast<int64_t>(l.class_weight.size()) != shape[0])
      throw GraphError("the output has " + std::to_string(shape[0]) + " classes, but " + std::to_string(l.class_weight.size()) +
                       " class weights were given");
    if (l.mask >= 0) {
      if (shape.size() != 3) throw GraphError("a masked loss needs an output of shape C x H x W, got " + to_text(shape));
      want(l.mask, {1, shape[1], shape[2]});
    }
    if (l.kind == "cross_entropy") shape.erase(shape.begin());
    if (shape.empty()) shape = {1};  // one label for a vector of classes
    want(l.target, shape);
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
  Problem p{e.read(value), e.in(target), {}, buffers};
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
  if (mask != kNoBuffer) {
    p.prediction = masked(p.prediction, "masked prediction");
    p.target = masked(p.target, "masked target");
  }
  emit_kind(e, spec, value, p);
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
