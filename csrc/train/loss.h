// loss.h - training objectives: each adds the steps that compute its value and its gradient to a plan.
//
// One file kernels/ops/<name>/loss.cpp per entry, registered by a static line; nothing else lists them.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "csrc/graph/emitter.h"

namespace warploom {

struct LossSpec {
  std::string kind = "mse";
  int output = 0;  // index into the graph's outputs
  int target = 0;  // index into the targets; of a loss that compares with nothing -1
  float weight = 1.0f;
  bool sigmoid = false;                   // of the prediction, first: a loss of probabilities for an output of logits
  int mask = -1;                          // a further target of one channel that multiplies prediction and target; -1: none
  std::map<std::string, double> numbers;  // what the kind has: LossDef::numbers()
  std::vector<float> class_weight;        // of a loss over classes; empty: 1
};

// Throws GraphError for an unknown kind or number.
void check_loss(const LossSpec& spec);

// The shapes of the targets, by index; throws GraphError where two losses want different ones or nobody wants one.
std::vector<Shape> target_shapes(const Graph& graph, const std::vector<int>& outputs, const std::vector<LossSpec>& losses);

struct LossBuffers {
  Handle value, total;  // device f32[1]; f64[2], see MseLoss in ops.h
  Handle class_weight;  // device f32[C], or kNoBuffer
};

// One call of a loss entry, as its LossDef is given it: everything but the kind's own attributes is filled in by call().
class LossCall {
 public:
  LossCall(Emitter& emit, const LossSpec& spec, int value, const LossBuffers& buffers)
      : emit(emit), spec(spec), value(value), buffers(buffers) {}
  Emitter& emit;
  const LossSpec& spec;
  const int value;  // of the graph: the output, whose shape the prediction has
  const LossBuffers& buffers;
  In prediction, target;
  Out grad;

  const Shape& shape() const { return emit.graph().shape(value); }
  int64_t count() const { return int64_t(emit.batch()) * count_of(shape()); }
  Emitter::Extent extent() const { return emit.extent(value); }
  double number(const char* name) const;  // as given, else the kind's default

  template <class Args>
  void call(const Entry<Args>& entry, const char* name, Args a) {
    a.samples = emit.batch();
    a.weight = spec.weight;
    a.prediction = prediction;
    give_target(a, 0);
    a.grad = grad;
    a.loss = emit.out(buffers.value);
    a.total = emit.inout(buffers.total);
    emit.call(entry, name, nullptr, a);
  }

 private:
  template <class Args>
  auto give_target(Args& a, int) -> decltype(a.target, void()) {
    a.target = target;
  }
  template <class Args>
  void give_target(Args&, long) {}  // an entry without one
};

// What the engine knows about a loss.
class LossDef {
 public:
  virtual ~LossDef() = default;
  virtual const char* name() const = 0;                                     // the kind in a LossSpec
  virtual std::map<std::string, double> numbers() const { return {}; }      // what it takes, with defaults
  virtual bool takes_class_weight() const { return false; }                 // one factor per channel of the output
  virtual std::string mask_refusal() const { return ""; }                   // why it takes no mask; "": it takes one
  virtual bool takes_target() const { return true; }                        // false: it judges the output by itself
  virtual Shape target_shape(const Shape& output) const { return output; }  // throws GraphError
  virtual void emit(LossCall& call) const = 0;                              // the entry's attributes, then call.call()
};

const LossDef& find_loss(const std::string& kind);  // throws GraphError naming the losses there are
void register_loss(const LossDef* loss);

struct LossRegistration {
  explicit LossRegistration(const LossDef* loss) { register_loss(loss); }
};
#define WL_REGISTER_LOSS(Class)        \
  static const Class Class##_instance; \
  static const ::warploom::LossRegistration Class##_registration(&Class##_instance);

void emit_loss(Emitter& emit, const LossSpec& spec, int prediction_value, Handle target, Handle mask, const LossBuffers& buffers);

// Where the losses' numbers stand in the session's loss memory.
struct LossLayout {
  explicit LossLayout(const std::vector<LossSpec>& losses);
  static constexpr int64_t kTotal = 0;
  std::vector<int64_t> value, class_weight;  // bytes from the start, per loss
  int64_t bytes = 0;
};

}  // namespace warploom
