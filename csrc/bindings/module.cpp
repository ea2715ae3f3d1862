// module.cpp - the Python extension warploom._core: exceptions and the module's parts.
#include <pybind11/pybind11.h>

#include "csrc/bindings/bindings.h"
#include "csrc/core/errors.h"
#include "kernels/device.h"

namespace py = pybind11;

PYBIND11_MODULE(_core, m) {
  using namespace warploom;
  m.doc() = "The C++ core of warploom: device libraries, graphs, plans and training sessions.";
  static py::handle error = py::exception<std::runtime_error>(m, "Error", PyExc_RuntimeError).release();
  static py::handle device_error = py::exception<DeviceError>(m, "DeviceError", error).release();
  static py::handle out_of_memory = py::exception<OutOfMemoryError>(m, "OutOfMemoryError", device_error).release();
  static py::handle kernel_fault = py::exception<KernelFault>(m, "KernelFault", device_error).release();
  static py::handle unsupported = py::exception<UnsupportedError>(m, "UnsupportedError", error).release();
  static py::handle graph_error = py::exception<GraphError>(m, "GraphError", PyExc_ValueError).release();
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
    }
  });
  bind_array(m);
  bind_call(m);
  bind_graph(m);
  bind_session(m);
}
