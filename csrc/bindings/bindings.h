// bindings.h - the parts of the _core module.
#pragma once

#include <pybind11/pybind11.h>

namespace warploom {
void bind_array(pybind11::module_& m);    // arrays in device memory, shared with other libraries
void bind_call(pybind11::module_& m);     // devices, versions, raw calls
void bind_graph(pybind11::module_& m);    // Graph
void bind_native(pybind11::module_& m);   // the end of the interpreter, fork()
void bind_session(pybind11::module_& m);  // Session
}  // namespace warploom
