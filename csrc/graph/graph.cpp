#include "csrc/graph/graph.h"

#include <algorithm>

#include "csrc/graph/op.h"

namespace warploom {

int64_t count_of(const Shape& shape) {
  Checked n = 1;
  for (const int64_t d : shape) n *= d;
  return n.between(0, kMostElements, "the number of elements of " + to_text(shape));
}

const Shape& checked_shape(const Shape& shape, const std::string& what) {
  for (const int64_t d : shape) Checked(d).size("every size of " + what + " (" + to_text(shape) + ")");
  Checked n = 1;
  for (const int64_t d : shape) n *= d;
  n.between(1, kMostElements, "the number of elements of " + what + " (" + to_text(shape) + ")");
  return shape;
}

std::string to_text(const Shape& shape) {
  std::string s;
  for (const int64_t d : shape) s += (s.empty() ? "" : "x") + std::to_string(d);
  return s.empty() ? "scalar" : s;
}

int Graph::add_input(const std::string& input_name, const Shape& shape) {
  if (shape.empty() || std::any_of(shape.begin(), shape.end(), [](int64_t d) { return d <= 0; }))
    throw GraphError("input '" + input_name + "' has the shape " + to_text(shape) + "; every size must be positive");
  checked_shape(shape, "input '" + input_name + "'");
  for (const int v : inputs)
    if (values[static_cast<size_t>(v)].name == input_name)
      throw GraphError("two inputs are named '" + input_name + "'; names must differ");
  values.push_back({input_name, shape, -1});
  inputs.push_back(static_cast<int>(values.size()) - 1);
  return inputs.back();
}

int Graph::add_parameter(Parameter parameter) {
  checked_shape(parameter.shape, "parameter '" + parameter.name + "'");
  if (!parameter_names_.insert(parameter.name).second)
    throw GraphError("two parameters are named '" + parameter.name + "'; give the layers different names");
  parameters.push_back(std::move(parameter));
  return static_cast<int>(parameters.size()) - 1;
}

void Graph::check_value(int value, const std::string& layer) const {
  if (value < 0 || value >= static_cast<int>(values.size()))
    throw GraphError("layer '" + layer + "': its input is not a value of this graph");
}

std::vector<int> Graph::add_node(const std::string& op, const std::string& node_name, const std::vector<int>& node_inputs,
                                 const std::vector<int>& node_parameters, const Attributes& attributes) {
  Node node{find_op(op), node_name, node_inputs, node_parameters, {}, attributes};
  if (node_names_.count(node_name)) throw GraphError("two layers are named '" + node_name + "'; names must differ");
  for (const int v : node_inputs) check_value(v, node_name);
  for (const int p : node_parameters)
    if (p < 0 || p >= static_cast<int>(parameters.size())) throw GraphError("layer '" + node_name + "': unknown parameter");
  std::vector<Shape> shapes;
  try {
    shapes = node.op->infer(*this, node);
    for (const Shape& s : shapes) checked_shape(s, "its output");
  } catch (const GraphError& e) {
    throw GraphError("layer '" + node_name + "' (" + op + "): " + e.what());
  }
  for (size_t i = 0; i < shapes.size(); i++) {
    values.push_back(
        {shapes.size() == 1 ? node_name : node_name + ":" + std::to_string(i), shapes[i], static_cast<int>(nodes.size())});
    node.outputs.push_back(static_cast<int>(values.size()) - 1);
  }
  nodes.push_back(node);
  node_names_.insert(node_name);
  return node.outputs;
}

void Graph::set_outputs(const std::vector<int>& new_outputs) {
  if (new_outputs.empty()) throw GraphError("a graph needs at least one output");
  for (const int v : new_outputs) check_value(v, "output");
  outputs = new_outputs;
}

}  // namespace warploom
