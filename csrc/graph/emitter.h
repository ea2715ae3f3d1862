// emitter.h - how an operation turns into steps of a plan.
//
// An OpDef asks the emitter for the buffers of its values, parameters and gradients and emits calls of table entries. The emitter
// keeps count of who writes and reads what, so that liveness, gradient sums and in-place use need no thought in the operations.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "csrc/core/checked.h"
#include "csrc/graph/op.h"
#include "csrc/graph/plan.h"

namespace warploom {
namespace detail {

// What a call's arguments say of their tensors is what their buffers hold: a size that was cut to 32 bits on its way does not get past.
struct SizeCheck {
  const char* entry;
  const std::string& node;
  template <class T>
  void attr(const char*, T&) {}
  template <class B>
  void tensor(const char* name, B& field, DType dtype, int64_t count, bool) const {
    if (!field || count == kEntryDecides) return;
    if (count < 0 || count > kMostBytes / dtype_bytes(dtype) || count * dtype_bytes(dtype) != field.bytes)
      throw GraphError("layer '" + node + "': the tensor '" + name + "' of " + entry + " should hold " + std::to_string(count) +
                       " elements, but its buffer has " + std::to_string(field.bytes) + " bytes; please report this");
  }
};

}  // namespace detail

class Emitter {
 public:
  Emitter(Plan& plan, const OpTable& table);

  const OpTable& table;
  int batch() const { return plan_.batch; }
  bool training() const { return plan_.training; }
  bool batch_statistics() const { return plan_.training && !plan_.eval_mode; }  // of normalisations; else the running ones
  // Does this plan's shard take the statistics of the whole batch, with meet() before what needs them? Of the shards that a session
  // computes side by side one moves the running statistics.
  bool shards_meet() const { return batch_statistics() && plan_.place >= 0; }
  bool moves_statistics() const { return plan_.place <= 0; }
  In meet(Out numbers);  // f64, written by the step before; in the next step they are those of all shards
  const Graph& graph() const { return plan_.graph; }
  uint64_t seed() const { return plan_.seed; }  // of random draws in a step
  In steps_taken();                             // by the optimizer, i32[1] on the device: another draw at every step

  // ---- forward ----
  In read(int value);
  Out write(int value);
  // The output's buffer is the input's where nothing else still needs the input's contents; else a new one.
  Out write_in_place(const Node& node, int output, int input);
  void alias(int output, int input);  // the same contents under another value: no copy
  In parameter(int parameter);
  InOut update_parameter(int parameter);  // a buffer among the parameters that the forward pass changes
  // Rows, channels and what lies inside a channel, as the value stands in memory: rank 3 in the version's layout, else in order.
  struct Extent {
    int64_t outer, C, inner;
  };
  Extent extent(int value) const { return extent(graph().shape(value)); }
  Extent extent(const Shape& shape) const;
  // Does a tensor of this shape stand in memory in another order than NCHW?
  bool is_nhwc_map(const Shape& shape) const;
  // Scratch of this pass, of the shape of a value or so.
  Out scratch(const Node& node, const std::string& name, int64_t bytes, Category category = Category::activations);
  // The output's buffer becomes one with its inputs' in it, one after the other; false (and nothing changed) where an input's buffer
  // cannot move there.
  bool join_in_place(int output, const std::vector<int>& inputs);
  // A part of a buffer.
  Handle slice(Handle whole, const std::string& name, int64_t offset, int64_t bytes);
  // A buffer kept from a node's forward step for its backward step.
  Out keep(const Node& node, const std::string& name, int64_t bytes);
  In kept(const Node& node, const std::string& name);

  // ---- backward ----
  bool wants_gradient(int value) const { return needs_gradient_.count(value) > 0; }
  bool wants_parameter_gradient(int parameter) const { return graph().parameters[static_cast<size_t>(parameter)].trainable; }
  bool has_gradient(int value) const { return gradients_.count(value) > 0; }
  In gradient(int value);
  // Where to write a contribution to the gradient of `value`. The first is the gradient; later ones are added in program order
  // when the node ends.
  Out write_gradient(int value);
  // The gradient of `value` may overwrite that of `output`, whose last reader this node is.
  Out write_gradient_in_place(int value, int output);
  void pass_gradient(int value, int output);  // the gradients are the same numbers
  // The slopes that whoever writes the gradient of `value`, alone, may take along (slopes_to_take() of the node that makes it).
  Slopes slopes_to_take(int value) const;
  // Then it says so and writes the gradient there, and that node passes it on. Where the gradient is stored like the value, it is the
  // value's own memory: this step is the last to read it, and must read an element before it writes there.
  Out take_slopes(int value);
  bool slopes_taken(int output) const { return slopes_taken_.count(output) > 0; }
  // Memory for a rewritten gradient of `output`: its own buffer where no other value shares it, else a new one.
  Out rewrite_gradient(int output);
  // The gradient of `value` is this part of that of `output`; false where somebody else needs either.
  bool take_gradient_slice(int value, int output, int64_t offset);
  Out write_parameter_gradient(int parameter);
  void end_node(const Node& node);  // emits the pending additions; the gradients of the node's outputs are used up

  // ---- calls ----
  template <class Args>
  std::string refusal(const Entry<Args>& entry, const Args& args) const {
    if (!entry.run) return "version " + std::string(table.version) + " has no such operation";
    return entry.why_not ? entry.why_not(args) : "";
  }
  template <class Args>
  bool accepts(const Entry<Args>& entry, const Args& args) const {
    return refusal(entry, args).empty();
  }
  template <class Args>
  int64_t saved_bytes(const Entry<Args>& entry, const Args& args) const {
    return entry.saved_bytes && training() ? entry.saved_bytes(args) : 0;
  }
  // Throws UnsupportedError with the version's reason if the entry refuses.
  template <class Args>
  Step& call(const Entry<Args>& entry, const char* name, const Node* node, const Args& args) {
    const std::string why = refusal(entry, args);
    if (!why.empty())
      throw UnsupportedError("layer '" + (node ? node->name : std::string("loss")) + "': version " + table.version + " refuses " +
                             name + ": " + why);
    detail::SizeCheck sizes{name, node ? node->name : "loss"};
    Args::visit(args, sizes);
    auto step = std::make_unique<CallStep<Args>>(entry, args);
    return add_step(std::move(step), name, node, entry.workspace_bytes ? entry.workspace_bytes(args) : 0);
  }

  // ---- for the planner ----
  Handle new_buffer(const std::string& name, int64_t bytes, Category category, DType type = DType::f32);
  Handle buffer_of(int value) const { return values_.at(value); }
  void set_buffer(int value, Handle h) { place(value, h); }
  bool has_buffer(int value) const { return values_.count(value) > 0; }
  void set_needs_gradient(std::set<int> values) { needs_gradient_ = std::move(values); }
  void begin_backward() { backward_ = true; }
  void keep_to_end(Handle h) {
    for (; h != kNoBuffer; h = plan_.buffers[static_cast<size_t>(h)].parent)
      plan_.buffers[static_cast<size_t>(h)].last_step = 1 << 30;
  }
  Out out(Handle h) const { return {tag(h), plan_.buffers[static_cast<size_t>(h)].bytes}; }
  In in(Handle h) const { return {tag(h), plan_.buffers[static_cast<size_t>(h)].bytes}; }
  InOut inout(Handle h) const { return {tag(h), plan_.buffers[static_cast<size_t>(h)].bytes}; }
  DType type(int value) const { return graph().values[static_cast<size_t>(value)].type; }  // how it is stored
  // Of the whole batch as float32; GraphError where it is more than a plan takes.
  int64_t batch_bytes(const Shape& shape) const {
    return (Checked(4) * batch() * count_of(shape)).bytes("a batch of " + std::to_string(batch()) + " x " + to_text(shape));
  }
  int64_t value_bytes(int value) const { return value_count(value) * dtype_bytes(type(value)); }
  int64_t gradient_bytes(int value) const { return value_count(value) * dtype_bytes(gradient_type(type(value))); }
  int64_t value_count(int value) const { return batch_bytes(graph().shape(value)) / 4; }
  Handle weights_handle(int parameter);  // in Space::weights; offset is the parameter's index until the session places it
  Handle weight_gradients_handle(int parameter);  // likewise

 private:
  Step& add_step(std::unique_ptr<Step> step, const char* name, const Node* node, int64_t workspace_bytes);
  bool may_overwrite(const Node& node, int input) const;
  void place(int value, Handle h);  // the value's contents stand there, beside those of others
  const std::vector<int>& consumers(int value) const { return consumers_[static_cast<size_t>(value)]; }

  Plan& plan_;
  bool backward_ = false;
  std::vector<std::vector<int>> consumers_;      // by value: the nodes that read it, in order
  std::map<Handle, std::vector<int>> contents_;  // the values whose contents stand in a buffer now
  std::map<int, Handle> values_, gradients_, weights_, weight_gradients_;
  Handle steps_ = kNoBuffer;
  std::map<std::pair<std::string, std::string>, Handle> kept_;
  bool shared_gradient(int value) const;
  Handle new_gradient(int value);
  struct Pending {
    int value;  // -1: a parameter's gradient
    Handle sum, part;
    int64_t count;
    DType type;
  };
  std::vector<Pending> pending_;
  std::set<int> needs_gradient_, slopes_taken_;
  std::set<Handle> fixed_;  // buffers that others are part of: not to be overwritten in place
};

}  // namespace warploom
