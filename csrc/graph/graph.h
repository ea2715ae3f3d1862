// graph.h - the network as the user wrote it: values, parameters and nodes, in an order in which they can be computed.
//
// A Graph is plain data and copies freely; passes (passes.h) take one and return another. Value and parameter ids stay valid
// across passes. Shapes leave the batch axis out. A node may only use values that exist, so a graph cannot hold a cycle.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "csrc/graph/attributes.h"
#include "kernels/args.h"

namespace warploom {

class OpDef;

using Shape = std::vector<int64_t>;
int64_t count_of(const Shape& shape);  // throws GraphError where it is more than kMostElements
// The shape, if its sizes and its number of elements are within bounds (checked.h), else GraphError. what: "its output".
const Shape& checked_shape(const Shape& shape, const std::string& what);
std::string to_text(const Shape& shape);  // "3x32x32"

struct Value {
  std::string name;
  Shape shape;
  int producer = -1;        // index into Graph::nodes, -1: an input of the graph
  DType type = DType::f32;  // how a plan stores it (storage.h)
};

struct Parameter {
  std::string name;  // PyTorch's convention: conv1.weight
  Shape shape;       // PyTorch's order
  std::string init = "zeros";
  int64_t fan_in = 0, fan_out = 0;
  double gain = 1.0;
  bool trainable = true;
  bool buffer = false;  // saved with the parameters but not learned: running statistics
};

struct Node {
  const OpDef* op = nullptr;
  std::string name;
  std::vector<int> inputs, parameters, outputs;
  Attributes attributes;
};

class Graph {
 public:
  explicit Graph(std::string name = "model") : name(std::move(name)) {}

  int add_input(const std::string& name, const Shape& shape);
  int add_parameter(Parameter parameter);
  // Infers the output shapes; throws GraphError naming the layer.
  std::vector<int> add_node(const std::string& op, const std::string& name, const std::vector<int>& inputs,
                            const std::vector<int>& parameters, const Attributes& attributes);
  void set_outputs(const std::vector<int>& values);

  const Shape& shape(int value) const { return values.at(static_cast<size_t>(value)).shape; }

  std::string name;
  std::vector<Value> values;
  std::vector<Parameter> parameters;
  std::vector<Node> nodes;
  std::vector<int> inputs, outputs;

 private:
  void check_value(int value, const std::string& layer) const;
  std::set<std::string> node_names_, parameter_names_;  // of everything that was added
};

}  // namespace warploom
