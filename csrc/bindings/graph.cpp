// graph.cpp - Graph for Python.
#include "csrc/graph/graph.h"

#include <pybind11/stl.h>

#include "csrc/bindings/bindings.h"
#include "csrc/bindings/constructor.h"
#include "csrc/graph/op.h"

namespace warploom {
namespace py = pybind11;
namespace {

Attributes to_attributes(const py::dict& d) {
  Attributes a;
  for (const auto& item : d) {
    const std::string key = item.first.cast<std::string>();
    if (py::isinstance<py::bool_>(item.second) || py::isinstance<py::int_>(item.second)) {
      a.values[key] = item.second.cast<int64_t>();
    } else if (py::isinstance<py::float_>(item.second)) {
      a.values[key] = item.second.cast<double>();
    } else if (py::isinstance<py::str>(item.second)) {
      a.values[key] = item.second.cast<std::string>();
    } else if (py::isinstance<py::sequence>(item.second)) {
      a.values[key] = item.second.cast<Ints>();
    } else {
      throw GraphError("attribute '" + key + "' must be an integer, a float, a string or a list of integers");
    }
  }
  return a;
}

py::dict attributes_dict(const Attributes& a) {
  py::dict d;
  for (const auto& [key, value] : a.values) d[key.c_str()] = value;
  return d;
}

py::list pair_list(const int64_t (&v)[2]) {
  py::list l;
  l.append(v[0]);
  l.append(v[1]);
  return l;
}

py::dict describe(const Graph& g) {
  py::dict d;
  d["name"] = g.name;
  d["inputs"] = g.inputs;
  d["outputs"] = g.outputs;
  py::list values, parameters, nodes;
  for (const auto& v : g.values) {
    py::dict e;
    e["name"] = v.name;
    e["shape"] = v.shape;
    e["producer"] = v.producer;
    values.append(e);
  }
  for (size_t i = 0; i < g.parameters.size(); i++) {
    const Parameter& p = g.parameters[i];
    py::dict e;
    e["id"] = i;
    e["name"] = p.name;
    e["shape"] = p.shape;
    e["init"] = p.init;
    e["fan_in"] = p.fan_in;
    e["fan_out"] = p.fan_out;
    e["gain"] = p.gain;
    e["trainable"] = p.trainable;
    e["buffer"] = p.buffer;
    parameters.append(e);
  }
  for (const auto& n : g.nodes) {
    py::dict e;
    e["name"] = n.name;
    e["op"] = n.op->name();
    e["inputs"] = n.inputs;
    e["outputs"] = n.outputs;
    e["parameters"] = n.parameters;
    e["attributes"] = attributes_dict(n.attributes);
    py::list shapes;
    for (const int v : n.outputs) shapes.append(g.shape(v));
    e["output_shapes"] = shapes;
    e["macs"] = n.op->macs(g, n);
    const Geometry q = n.op->geometry(g, n);
    e["kernel"] = pair_list(q.kernel);
    e["stride"] = pair_list(q.stride);
    e["padding"] = pair_list(q.padding);
    e["upsample"] = pair_list(q.upsample);
    e["bilinear"] = q.bilinear;
    e["transposed"] = q.transposed;
    e["global"] = q.global;
    nodes.append(e);
  }
  d["values"] = values;
  d["parameters"] = parameters;
  d["nodes"] = nodes;
  return d;
}

}  // namespace

void bind_graph(py::module_& m) {
  py::class_<Graph>(m, "Graph")
      .def("__init__", constructor(+[](std::string name) { return std::make_unique<Graph>(std::move(name)); }), is_constructor(),
           py::arg("name") = "model")
      .def("input", &Graph::add_input, py::arg("name"), py::arg("shape"))
      .def(
          "parameter",
          [](Graph& g, const std::string& name, const Shape& shape, const std::string& init, int64_t fan_in, int64_t fan_out,
             double gain, bool trainable,
             bool buffer) { return g.add_parameter({name, shape, init, fan_in, fan_out, gain, trainable && !buffer, buffer}); },
          py::arg("name"), py::arg("shape"), py::kw_only(), py::arg("init") = "zeros", py::arg("fan_in") = 0,
          py::arg("fan_out") = 0, py::arg("gain") = 1.0, py::arg("trainable") = true, py::arg("buffer") = false)
      .def(
          "node",
          [](Graph& g, const std::string& op, const std::string& name, const std::vector<int>& inputs,
             const std::vector<int>& parameters,
             const py::dict& attributes) { return g.add_node(op, name, inputs, parameters, to_attributes(attributes)); },
          py::arg("op"), py::arg("name"), py::arg("inputs"), py::arg("parameters"), py::arg("attributes"))
      .def("set_outputs", &Graph::set_outputs, py::arg("values"))
      .def(
          "set_trainable", [](Graph& g, size_t p, bool trainable) { g.parameters.at(p).trainable = trainable; },
          py::arg("parameter"), py::arg("trainable"))
      .def(
          "shape", [](const Graph& g, int value) { return py::tuple(py::cast(g.shape(value))); }, py::arg("value"))
      .def("describe", &describe);
}

}  // namespace warploom
