// array.h - an array in a device's memory, as Python sees it: owned, or shared with whoever made it. Dense, C order.
#pragma once

#include <pybind11/numpy.h>

#include <memory>
#include <string>
#include <vector>

#include "csrc/core/device_memory.h"
#include "csrc/core/registry.h"

namespace warploom {
namespace py = pybind11;

constexpr uintptr_t kAlignment = 16;  // the widest access of a kernel; what comes from elsewhere may start anywhere

struct ElementType {
  const char* name;     // NumPy's
  const char* typestr;  // of the array interfaces
  uint8_t code, bits;   // DLPack's
  int64_t bytes() const { return bits / 8; }
};
const ElementType* element_type(const py::dtype& dtype);  // nullptr: arrays cannot hold it
const ElementType& element_type(DType t);                 // bf16 and f16 are seen as their bits

// Whoever fills the memory waits until it is there: an array in Python's hands is complete.
struct DeviceArray {
  OpenDevice target;
  std::shared_ptr<void> owner;  // keeps the memory; may be let go of with or without the GIL
  char* data = nullptr;
  const ElementType* type = nullptr;
  std::vector<int64_t> shape;
  bool writable = true;

  int64_t size() const;
  int64_t bytes() const { return size() * type->bytes(); }
  py::dtype dtype() const { return py::dtype(type->name); }
  const std::string& device() const { return target.name; }
  std::string shape_text() const;

  static DeviceArray allocate(const OpenDevice& target, const ElementType& type, std::vector<int64_t> shape,
                              const std::string& what);
  static DeviceArray adopt(const OpenDevice& target, DeviceMemory memory, char* data, const ElementType& type,
                           std::vector<int64_t> shape);
};

}  // namespace warploom
