#include "csrc/train/planner.h"

#include <algorithm>
#include <set>

#include "csrc/core/names.h"
#include "csrc/graph/conv2d.h"
#include "csrc/graph/errands.h"
#include "csrc/graph/op.h"
#include "csrc/graph/passes.h"
#include "csrc/graph/storage.h"

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
  if (e.is_nhwc_map(s)) {
    LayoutConvert a;
    a.N = e.batch(), a.C = narrow(s[0]), a.H = narrow(s[1]), a.W = narrow(s[2]);
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
  plan->eval_mode = request.eval_mode;
  plan->seed = request.seed;
  plan->place = request.place;
  const bool with_losses = request.losses || request.training;
  std::vector<int> values = request.values.empty() ? graph.outputs : request.values;
  if (with_losses) values = graph.outputs;
  Graph pruned = prune(graph, values);
  if (!request.training) pruned = fold_batch_norm(pruned);
  if (request.precision != Precision::fp32)
    for (Node& n : pruned.nodes) n.attributes.values["precision"] = std::string(name_of(request.precision));
  plan->graph = fuse_convolutions(
      fuse_activations(pruned),
      [&](const Graph& g, const Node& n) { return conv2d_refusal(table, g, n, request.batch, request.training); },
      &plan->refusals);
  if (!request.training)
    plan->graph = fold_avg_pools(
        plan->graph, [&](const Graph& g, const Node& n) { return conv2d_mean_refusal(table, g, n, request.batch); },
        &plan->refusals);
  if (request.precision != Precision::fp32_exact) plan->graph = fold_upsamples(plan->graph);
  choose_storage(plan->graph, table, request.precision, request.batch, request.training, values);
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
    const std::vector<Shape> shapes = target_shapes(g, g.outputs, losses);
    for (size_t t = 0; t < shapes.size(); t++) {
      if (request.targets_are_inputs) {
        if (t >= g.inputs.size() || g.shape(g.inputs[t]) != shapes[t])
          throw GraphError("there is no input of shape " + to_text(shapes[t]) + " to reconstruct for target " +
                           std::to_string(t) + "; give the targets");
        plan->targets.push_back(plan->inputs[t]);
        continue;
      }
      const Handle h = e.new_buffer("target " + std::to_string(t), e.batch_bytes(shapes[t]), Category::activations);
      plan->buffers[static_cast<size_t>(h)].first_step = 0;
      plan->targets.push_back(h);
    }
    const LossLayout layout(losses);
    const Handle total = loss_buffer(*plan, e, "loss total", 16, LossLayout::kTotal);
    for (size_t i = 0; i < losses.size(); i++) {
      const LossSpec& l = losses[i];
      LossBuffers buffers{loss_buffer(*plan, e, "loss " + std::to_string(i), 4, layout.value[i]), total, kNoBuffer};
      if (!l.class_weight.empty())
        buffers.class_weight = loss_buffer(*plan, e, "class weights " + std::to_string(i),
                                           4 * static_cast<int64_t>(l.class_weight.size()), layout.class_weight[i]);
      const auto target = [&](int i) { return i < 0 ? kNoBuffer : plan->targets[static_cast<size_t>(i)]; };
      emit_loss(e, l, g.outputs[static_cast<size_t>(l.output)], target(l.target), target(l.mask), buffers);
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
  share_errands(*plan, table, request.gradients_early);
  const int last = static_cast<int>(plan->steps.size());
  for (auto& b : plan->buffers) {
    b.last_step = std::min(b.last_step, last);
    if (b.first_step >= 0 && b.last_step < b.first_step) b.last_step = b.first_step;
  }
  assign_offsets(*plan);
  return plan;
}

}  // namespace warploom
