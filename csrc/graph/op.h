// op.h - what the engine knows about an operation: its shape rule, how it becomes kernel calls, its gradient and its cost.
//
// One file of ops/ per operation, registered by a static WL_REGISTER_OP line; nothing else lists them.
#pragma once

#include <string>
#include <vector>

#include "csrc/graph/graph.h"
#include "kernels/ops.h"

namespace warploom {

class Emitter;

// How an operation moves a receptive field, per axis: the window and step on its input, the zero padding before the first
// element, and how many output elements share one input element.
struct Geometry {
  int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0}, upsample[2] = {1, 1};
  bool bilinear = false;
  bool transposed = false;  // a transposed convolution: kernel, padding; `upsample` is its stride
  bool global = false;      // every output sees the whole input
};

// An activation by what its gradient asks of its output: relu, leaky_relu.
struct Slopes {
  Activation kind = Activation::none;
  float negative = 0.0f;
};

class OpDef {
 public:
  virtual ~OpDef() = default;
  virtual const char* name() const = 0;
  virtual std::vector<Shape> infer(const Graph& graph, const Node& node) const = 0;  // throws GraphError
  virtual void forward(Emitter& emit, const Node& node) const = 0;
  virtual void backward(Emitter& emit, const Node& node) const = 0;
  virtual int64_t macs(const Graph&, const Node&) const { return 0; }  // multiply-accumulates per sample, done plainly
  virtual Geometry geometry(const Graph&, const Node&) const { return {}; }
  // Does backward read the node's outputs? If so no later node may overwrite them in place.
  virtual bool backward_reads_output(const Node&) const { return false; }
  // The activation at the node's output whose gradient backward() takes by a step of its own, unless slopes_taken().
  virtual Slopes slopes_to_take(const Emitter&, const Node&) const { return {}; }
  // Does the table take the node's maps as they are stored (Value::type), forward and (training) backward?
  virtual bool takes_storage(const Graph& graph, const Node& node, const OpTable& table, int batch, bool training) const;
  // Can the node apply an activation to its output (attributes activation, negative_slope), whatever the version?
  virtual bool takes_activation() const { return false; }
};

bool stored_alike(const Graph& graph, const Node& node);  // the inputs of a node and its first output
// Whether an activation's slope, computed from an output that is stored so, is as good as the operands: y (1 - y), 1 - y^2 and y + alpha
// are differences, of which 16 bits leave nothing where the activation saturates.
bool slope_survives(Activation kind, DType output);

const OpDef* find_op(const std::string& name);  // throws GraphError naming the operations there are
void register_op(const OpDef* op);

struct OpRegistration {
  explicit OpRegistration(const OpDef* op) { register_op(op); }
};
#define WL_REGISTER_OP(Class)          \
  static const Class Class##_instance; \
  static const ::warploom::OpRegistration Class##_registration(&Class##_instance);

}  // namespace warploom
