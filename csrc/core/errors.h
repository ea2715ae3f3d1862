// errors.h - the engine's exceptions; bindings turn each into the Python class of the same name. Device libraries throw those of
// kernels/device.h (DeviceError, OutOfMemoryError, KernelFault).
#pragma once

#include <stdexcept>

namespace warploom {

struct UnsupportedError : std::runtime_error {  // a kernel set refuses a shape; the text names the precondition
  using std::runtime_error::runtime_error;
};
struct GraphError : std::invalid_argument {  // malformed graph, mismatched shapes; the text names the layer
  using std::invalid_argument::invalid_argument;
};

}  // namespace warploom
