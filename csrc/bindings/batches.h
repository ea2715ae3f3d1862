// batches.h - arrays from outside as a session takes them: checked against the values they feed, and kept alive meanwhile. Arrays in the
// session's own device memory are read in place.
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "csrc/bindings/array.h"
#include "csrc/train/session.h"

namespace warploom {

std::string shape_text(const Shape& shape);  // "(3, 32, 32)"

struct Source {  // an array from outside, as it will be read
  py::object keep;
  const void* data;
  DType dtype;
  Shape shape;
  bool resident;
};
Source source_of(const py::handle& h, const OpenDevice& target, const std::string& what);
const DeviceArray& on_device(const py::handle& h, const OpenDevice& target, const std::string& what);

// The shape alone: making a broadcast view dense may take more memory than there is.
Shape shape_of(const py::handle& h, const std::string& what);
// The rows of a batch, or of a data set: counted with 32 bits by the kernels; ValueError for none and for more.
int rows_of(int64_t rows, const std::string& what);

struct AugmentedBatch {  // given as an input: raw images, and what the device makes of them
  AugmentedBatch(py::object images, py::array_t<int32_t, py::array::c_style> numbers, int32_t epoch, const py::dict& changes);
  py::object images;
  py::array_t<int32_t, py::array::c_style> numbers;
  Augmented what;
};

struct Batches {
  std::vector<py::object> keep;
  std::vector<HostBatch> inputs, targets;
  Batches(const Session& s, const py::list& in, const py::list& out);  // out empty: the targets are the inputs
  // Whether the device may still read what belongs to someone else after a step has been queued.
  bool borrowed() const;
};

}  // namespace warploom
