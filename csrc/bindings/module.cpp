// module.cpp - the Python extension warploom._core: exceptions and the module's parts.
#include <pybind11/pybind11.h>

#include <new>

#include "csrc/bindings/bindings.h"
#include "csrc/core/errors.h"
#include "kernels/device.h"

namespace py = pybind11;

namespace {
py::handle new_class(py::module_& m, const char* name, const py::tuple& bases) {
  const std::string full = m.attr("__name__").cast<std::string>() + "." + name;
  PyObject* made = PyErr_NewException(full.c_str(), bases.ptr(), nullptr);
  if (!made) throw py::error_already_set();
  m.attr(name) = py::handle(made);
  return made;
}
}  // namespace

PYBIND11_MODULE(_core, m) {
  using namespace warploom;
  m.doc() = "The C++ core of warploom: device libraries, graphs, plans and training sessions.";
  // Error is the root of all; each kind is also what Python has for it, so that `except ValueError` and the like go on to work.
  const py::handle error = new_class(m, "Error", py::make_tuple(py::handle(PyExc_Exception)));
  static const py::handle device_error = new_class(m, "DeviceError", py::make_tuple(error, py::handle(PyExc_RuntimeError)));
  static const py::handle out_of_memory =
      new_class(m, "OutOfMemoryError", py::make_tuple(device_error, py::handle(PyExc_MemoryError)));
  static const py::handle kernel_fault = new_class(m, "KernelFault", py::make_tuple(device_error));
  static const py::handle unsupported = new_class(m, "UnsupportedError", py::make_tuple(error, py::handle(PyExc_RuntimeError)));
  static const py::handle graph_error = new_class(m, "GraphError", py::make_tuple(error, py::handle(PyExc_ValueError)));
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const KernelFault& e) {
      py::set_error(kernel_fault, e.what());
    } catch (const OutOfMemoryError& e) {
      py::set_error(out_of_memory, e.what());
    } catch (const DeviceError& e) {
      py::set_error(device_error, e.what());
    } catch (const UnsupportedError& e) {
      py::set_error(unsupported, e.what());
    } catch (const GraphError& e) {
      py::set_error(graph_error, e.what());
    } catch (const std::bad_alloc&) {
      py::set_error(out_of_memory,
                    "the host has no memory left for what the engine itself keeps; end other programs, or use a "
                    "smaller network or batch size");
    }
  });
  bind_native(m);
  bind_array(m);
  bind_call(m);
  bind_graph(m);
  bind_session(m);
}
