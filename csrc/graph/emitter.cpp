#include "csrc/graph/emitter.h"

#include <algorithm>

#include "csrc/graph/op.h"

namespace warploom {

Emitter::Emitter(Plan& plan, const OpTable& t) : table(t), plan_(plan), consumers_(plan.graph.values.size()) {
  for (size_t i = 0; i < plan.graph.nodes.size(); i++)
    for (const int v : plan.graph.nodes[i].inputs) consumers_[static_cast<size_t>(v)].push_back(static_cast<int>(i));
}

void Emitter::place(int value, Handle h) {
  values_[value] = h;
  contents_[h].push_back(value);
}

Handle Emitter::new_buffer(const std::string& name, int64_t bytes, Category category, DType type) {
  Buffer b;
  b.type = type;
  b.name = name;
  b.bytes = Checked(bytes).bytes("the buffer '" + name + "'");
  b.category = category;
  plan_.buffers.push_back(b);
  return static_cast<Handle>(plan_.buffers.size()) - 1;
}

Step& Emitter::add_step(std::unique_ptr<Step> step, const char* name, const Node* node, int64_t workspace_bytes) {
  step->entry = name;
  step->node = node ? node->name : "";
  step->backward = backward_;
  const int index = static_cast<int>(plan_.steps.size());
  if (workspace_bytes > 0) {
    step->workspace = new_buffer(step->node + "." + name + " workspace", workspace_bytes, Category::workspace);
    step->workspace_memory.bytes = workspace_bytes;
    auto& b = plan_.buffers[static_cast<size_t>(step->workspace)];
    b.first_step = b.last_step = index;
  }
  for (const auto& use : step->uses) {
    for (Handle h = use.first; h != kNoBuffer; h = plan_.buffers[static_cast<size_t>(h)].parent) {
      auto& b = plan_.buffers[static_cast<size_t>(h)];
      if (b.first_step < 0) b.first_step = index;
      b.last_step = std::max(b.last_step, index);
    }
  }
  plan_.steps.push_back(std::move(step));
  return *plan_.steps.back();
}

In Emitter::meet(Out numbers) {
  plan_.meetings.push_back({plan_.steps.size(), untag(numbers.data), backward_});
  return in(untag(numbers.data));
}

In Emitter::steps_taken() {
  if (steps_ == kNoBuffer) {
    steps_ = new_buffer("steps taken", 4, Category::persistent);
    plan_.buffers[static_cast<size_t>(steps_)].space = Space::steps;
  }
  return in(steps_);
}

// ---- forward ----

In Emitter::read(int value) { return in(values_.at(value)); }

Out Emitter::write(int value) {
  const Value& v = graph().values[static_cast<size_t>(value)];
  place(value, new_buffer(v.name, value_bytes(value), Category::activations, v.type));
  return out(values_[value]);
}

bool Emitter::may_overwrite(const Node& node, int input) const {
  const Graph& g = graph();
  if (fixed_.count(values_.at(input))) return false;
  if (std::count(g.inputs.begin(), g.inputs.end(), input) || std::count(g.outputs.begin(), g.outputs.end(), input)) return false;
  // Another value in the same buffer (an identity) may have readers of its own, so ask every value whose contents stand there.
  const Handle handle = values_.at(input);
  for (const int value : contents_.at(handle)) {
    for (const int consumer : consumers(value)) {
      const Node& c = g.nodes[static_cast<size_t>(consumer)];
      const bool is_alias =
          std::any_of(c.outputs.begin(), c.outputs.end(), [&](int v) { return has_buffer(v) && buffer_of(v) == handle; });
      if (c.name != node.name && !is_alias) return false;
    }
    if (std::count(g.inputs.begin(), g.inputs.end(), value) || std::count(g.outputs.begin(), g.outputs.end(), value))
      return false;
    const int producer = g.values[static_cast<size_t>(value)].producer;
    if (producer >= 0 && training()) {
      const Node& p = g.nodes[static_cast<size_t>(producer)];
      if (p.op->backward_reads_output(p)) return false;
    }
  }
  return true;
}

Out Emitter::write_in_place(const Node& node, int output, int input) {
  if (!may_overwrite(node, input)) return write(output);
  const Handle h = values_.at(input);
  contents_[h].clear();  // overwritten, and nobody needs them any more
  place(output, h);
  return out(h);
}

void Emitter::alias(int output, int input) { place(output, values_.at(input)); }

Handle Emitter::weights_handle(int parameter) {
  const auto found = weights_.find(parameter);
  if (found != weights_.end()) return found->second;
  const Parameter& p = graph().parameters[static_cast<size_t>(parameter)];
  const Handle h = new_buffer(p.name, 4 * count_of(p.shape), Category::persistent);
  plan_.buffers[static_cast<size_t>(h)].space = Space::weights;
  plan_.buffers[static_cast<size_t>(h)].offset = parameter;
  return weights_[parameter] = h;
}

Handle Emitter::weight_gradients_handle(int parameter) {
  const Parameter& p = graph().parameters[static_cast<size_t>(parameter)];
  const Handle h = new_buffer(p.name + ".grad", 4 * count_of(p.shape), Category::persistent);
  plan_.buffers[static_cast<size_t>(h)].space = Space::weight_gradients;
  plan_.buffers[static_cast<size_t>(h)].offset = parameter;
  return h;
}

In Emitter::parameter(int parameter) { return in(weights_handle(parameter)); }

InOut Emitter::update_parameter(int parameter) { return inout(weights_handle(parameter)); }

Emitter::Extent Emitter::extent(const Shape& s) const {
  const int64_t n = batch();
  if (s.size() == 3 && table.layout == Layout::nhwc) return {n * s[1] * s[2], s[0], 1};
  return {n, s[0], count_of(s) / s[0]};
}

bool Emitter::is_nhwc_map(const Shape& s) const {
  return table.layout == Layout::nhwc && s.size() == 3 && s[0] > 1 && s[1] * s[2] > 1;
}

Out Emitter::scratch(const Node& node, const std::string& name, int64_t bytes, Category category) {
  return out(new_buffer(node.name + "." + name, bytes, category));
}

Handle Emitter::slice(Handle whole, const std::string& name, int64_t offset, int64_t bytes) {
  const Category category = plan_.buffers[static_cast<size_t>(whole)].category;
  const Handle h = new_buffer(name, bytes, category);
  plan_.buffers[static_cast<size_t>(h)].parent = whole;
  plan_.buffers[static_cast<size_t>(h)].offset = offset;
  fixed_.insert(whole);
  return h;
}

bool Emitter::join_in_place(int output, const std::vector<int>& inputs) {
  const Graph& g = graph();
  std::set<Handle> seen;
  for (const int v : inputs) {
    const Handle h = values_.at(v);
    const Buffer& b = plan_.buffers[static_cast<size_t>(h)];
    if (b.space != Space::arena || b.parent != kNoBuffer || fixed_.count(h) || !seen.insert(h).second) return false;
    if (b.bytes % 256) return false;  // parts stay aligned, as kernels with vector loads expect of a buffer
    for (const auto& [value, handle] : values_)
      if (handle == h && std::count(g.inputs.begin(), g.inputs.end(), value)) return false;
  }
  const Handle whole = untag(write(output).data);
  int64_t offset = 0;
  for (const int v : inputs) {
    Buffer& b = plan_.buffers[static_cast<size_t>(values_.at(v))];
    Buffer& w = plan_.buffers[static_cast<size_t>(whole)];
    b.parent = whole;
    b.offset = offset;
    offset += b.bytes;
    w.first_step = w.first_step < 0 ? b.first_step : std::min(w.first_step, b.first_step);
    w.last_step = std::max(w.last_step, b.last_step);
    fixed_.insert(values_.at(v));
  }
  fixed_.insert(whole);
  return true;
}

Out Emitter::keep(const Node& node, const std::string& name, int64_t bytes) {
  const Handle h = new_buffer(node.name + "." + name, bytes, Category::saved);
  kept_[{node.name, name}] = h;
  return out(h);
}

In Emitter::kept(const Node& node, const std::string& name) {
  const auto found = kept_.find({node.name, name});
  return found == kept_.end() ? In{} : in(found->second);
}

// ---- backward ----

In Emitter::gradient(int value) { return in(gradients_.at(value)); }

bool Emitter::shared_gradient(int value) const {
  int users = 0;
  for (const auto& g : gradients_) users += g.second == gradients_.at(value);
  return users > 1;
}

Slopes Emitter::slopes_to_take(int value) const {
  const Graph& g = graph();
  const int producer = g.values[static_cast<size_t>(value)].producer;
  if (producer < 0 || has_gradient(value) || consumers(value).size() != 1) return {};
  if (std::count(g.outputs.begin(), g.outputs.end(), value)) return {};
  const Node& made_by = g.nodes[static_cast<size_t>(producer)];
  return made_by.op->slopes_to_take(*this, made_by);
}

Out Emitter::take_slopes(int value) {
  slopes_taken_.insert(value);
  const Handle h = values_.at(value);
  // slopes_to_take(): no other node reads the value, and no gradient of it is there yet. Contents of others may stand beside it.
  if (gradient_type(type(value)) != type(value) || contents_.at(h).size() > 1 || fixed_.count(h)) return write_gradient(value);
  gradients_[value] = h;
  return out(h);
}

Out Emitter::write_gradient(int value) {
  const Handle h = new_gradient(value);
  if (has_gradient(value)) {
    pending_.push_back({value, kNoBuffer, h, value_count(value), gradient_type(type(value))});
  } else {
    gradients_[value] = h;
  }
  return out(h);
}

Out Emitter::write_gradient_in_place(int value, int output) {
  if (has_gradient(value) || shared_gradient(output)) return write_gradient(value);
  gradients_[value] = gradients_.at(output);
  return out(gradients_[value]);
}

void Emitter::pass_gradient(int value, int output) {
  if (has_gradient(value)) {
    pending_.push_back({value, kNoBuffer, gradients_.at(output), value_count(value), gradient_type(type(value))});
  } else {
    gradients_[value] = gradients_.at(output);
  }
}

Handle Emitter::new_gradient(int value) {
  const Value& v = graph().values[static_cast<size_t>(value)];
  return new_buffer(v.name + ".grad", gradient_bytes(value), Category::gradients, gradient_type(v.type));
}

Out Emitter::rewrite_gradient(int output) { return out(shared_gradient(output) ? new_gradient(output) : gradients_.at(output)); }

bool Emitter::take_gradient_slice(int value, int output, int64_t offset) {
  if (has_gradient(value) || shared_gradient(output)) return false;
  const int64_t bytes = gradient_bytes(value);
  if (bytes % 256 || offset % 256) return false;
  gradients_[value] = slice(gradients_.at(output), graph().values[static_cast<size_t>(value)].name + ".grad", offset, bytes);
  return true;
}

Out Emitter::write_parameter_gradient(int parameter) {
  const int64_t count = count_of(graph().parameters[static_cast<size_t>(parameter)].shape);
  const auto found = weight_gradients_.find(parameter);
  if (found == weight_gradients_.end()) return out(weight_gradients_[parameter] = weight_gradients_handle(parameter));
  const Handle part =
      new_buffer(graph().parameters[static_cast<size_t>(parameter)].name + ".grad part", 4 * count, Category::gradients);
  pending_.push_back({-1, found->second, part, count, DType::f32});
  return out(part);
}

void Emitter::end_node(const Node& node) {
  for (const int v : node.outputs) gradients_.erase(v);
  for (size_t i = 0; i < pending_.size(); i++) {
    const Pending& p = pending_[i];
    Add a;
    a.count = p.count, a.type = p.type;
    a.b = in(p.part);
    if (p.value < 0) {
      a.a = in(p.sum);
      a.y = out(p.sum);
    } else {  // in place, unless another value has the same gradient, or it is still to be added somewhere (add(v, v, v))
      const Handle sum = gradients_.at(p.value);
      const bool again = std::any_of(pending_.begin() + static_cast<std::ptrdiff_t>(i) + 1, pending_.end(),
                                     [&](const Pending& later) { return later.part == sum; });
      a.a = in(sum);
      a.y = again ? out(new_gradient(p.value)) : rewrite_gradient(p.value);
      gradients_[p.value] = untag(a.y.data);
    }
    call(table.add, "add", &node, a);
  }
  pending_.clear();
}

}  // namespace warploom
