#include "csrc/train/planner.h"

#include <algorithm>
#include <set>

#include "csrc/graph/op.h"
#include "csrc/graph/ops/conv2d.h"
#include "csrc/graph/passes.h"

namespace warploom {
namespace {

// Values whose gradient leads to a trainable parameter.
std::set<int> values_with_gradient(const Graph& g) {
  std::set<int> wanted;
  for (const Node& n : g.nodes) {
    bool depends = std::any_of(n.inputs.begin(), n.inputs.end(), [&](int v) { return wanted.count(v) > 0; });
    for (const int p : n.parameters) depends = depends || g.parameters[static_cast<size_t>(p)].trainable;
    if (depends) wanted.insert(n.outputs.begin(), n.outputs.end());
  }
  return wanted;
}

bool is_nhwc_map(const OpTable& table, const Shape& shape) {
  return table.layout == Layout::nhwc && shape.size() == 3 && shape[0] > 1 && shape[1] * shape[2] > 1;
}

Handle loss_buffer(Plan& plan, Emitter& emit, const std::string& name, int64_t bytes, int64_t offset) {
  const Handle h = emit.new_buffer(name, bytes, Category::persistent);
  plan.buffers[static_cast<size_t>(h)].space = Space::loss;
  plan.buffers[static_cast<size_t>(h)].offset = offset;
  return h;
}

// Outputs leave the device as NCHW.
Handle emit_output(Emitter& e, int value) {
  const Shape& s = e.graph().shape(value);
  Handle h = e.buffer_of(value);
  if (is_nhwc_map(e.table, s)) {
    LayoutConvert a;
    a.N = e.batch(), a.C = static_cast<int>(s[0]), a.H = static_cast<int>(s[1]), a.W = static_cast<int>(s[2]);
    a.from = Layout::nhwc, a.to = Layout::nchw;
    a.x = e.read(value);
    h = e.new_buffer(e.graph().values[static_cast<size_t>(value)].name + " NCHW", e.value_bytes(value), Category::activations);
    a.y = e.out(h);
    e.call(e.table.layout_convert, "layout_convert", nullptr, a);
  }
  e.keep_to_end(h);
  return h;
}

}  // namespace

std::unique_ptr<Plan> make_plan(const Graph& graph, const OpTable& table, const std::vector<LossSpec>& losses,
                                const PlanRequest& request) {
  if (graph.outputs.empty() && request.values.empty()) throw GraphError("the graph has no outputs; call set_outputs first");
  auto plan = std::make_unique<Plan>();
  plan->batch = request.batch;
  plan->training = request.training;
  const bool with_losses = request.losses || request.training;
  std::vector<int> values = request.values.empty() ? graph.outputs : request.values;
  if (with_losses) values = graph.outputs;
  plan->graph = fuse_convolutions(
      prune(graph, values),
      [&](const Graph& g, const Node& n) { return conv2d_refusal(table, g, n, request.batch, request.training); },
      &plan->refusals);
  const Graph& g = plan->graph;

  Emitter e(*plan, table);
  for (const int v : g.inputs) {
    const Handle h = e.new_buffer(g.values[static_cast<size_t>(v)].name, e.value_bytes(v), Category::activations);
    plan->buffers[static_cast<size_t>(h)].first_step = 0;
    e.set_buffer(v, h);
    plan->inputs.push_back(h);
  }
  if (request.training) e.set_needs_gradient(values_with_gradient(g));
  for (const Node& n : g.nodes) n.op->forward(e, n);

  if (with_losses) {
    if (losses.empty()) throw GraphError("no loss was given; compile the model with one");
    int target_count = 0;
    for (const LossSpec& l : losses) {
      check_loss(l);
      if (l.output < 0 || l.output >= static_cast<int>(g.outputs.size()))
        throw GraphError("the loss names output " + std::to_string(l.output) + ", the graph has " +
                         std::to_string(g.outputs.size()));
      target_count = std::max(target_count, l.target + 1);
    }
    for (int t = 0; t < target_count; t++) {
      if (request.targets_are_inputs) {
        if (t >= static_cast<int>(g.inputs.size())) throw GraphError("no input to reconstruct for target " + std::to_string(t));
        plan->targets.push_back(plan->inputs[static_cast<size_t>(t)]);
        continue;
      }
      int value = -1;
      for (const LossSpec& l : losses)
        if (l.target == t) value = g.outputs[static_cast<size_t>(l.output)];
      if (value < 0) throw GraphError("no loss uses target " + std::to_string(t));
      const Handle h = e.new_buffer("target " + std::to_string(t), e.value_bytes(value), Category::activations);
      plan->buffers[static_cast<size_t>(h)].first_step = 0;
      plan->targets.push_back(h);
    }
    const Handle total = loss_buffer(*plan, e, "loss total", 16, 0);
    for (size_t i = 0; i < losses.size(); i++) {
      const LossSpec& l = losses[i];
      const int prediction = g.outputs[static_cast<size_t>(l.output)];
      const Handle target = plan->targets[static_cast<size_t>(l.target)];
      if (plan->buffers[static_cast<size_t>(target)].bytes != e.value_bytes(prediction))
        throw GraphError("the target of output '" + g.values[static_cast<size_t>(prediction)].name + "' must have its shape " +
                         to_text(g.shape(prediction)));
      emit_loss(e, l, prediction, target, loss_buffer(*plan, e, "loss " + std::to_string(i), 4, 16 + 4 * static_cast<int64_t>(i)),
                total);
    }
  }
  if (!with_losses)
    for (const int v : values) plan->outputs.push_back(emit_output(e, v));

  if (request.training) {
    e.begin_backward();
    e.end_node(Node{nullptr, "loss", {}, {}, {}, {}});  // several losses on one output
    for (size_t i = g.nodes.size(); i-- > 0;) {
      const Node& n = g.nodes[i];
      const bool reached =
          std::all_of(n.outputs.begin(), n.outputs.end(), [&](int v) { return e.wants_gradient(v) && e.has_gradient(v); });
      if (!reached) continue;
      n.op->backward(e, n);
      e.end_node(n);
    }
  }
  const int last = static_cast<int>(plan->steps.size());
  for (auto& b : plan->buffers) {
    b.last_step = std::min(b.last_step, last);
    if (b.first_step >= 0 && b.last_step < b.first_step) b.last_step = b.first_step;
  }
  assign_offsets(*plan);
  return plan;
}

}  // namespace warploom
