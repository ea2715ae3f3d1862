#include "csrc/bindings/batches.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "csrc/bindings/attributes.h"

namespace warploom {
namespace {

std::string expected_text(const Shape& shape) {
  std::string s = "(N";
  for (const int64_t d : shape) s += ", " + std::to_string(d);
  return s + ")";
}

DType dtype_of(const py::dtype& t, const std::string& what) {
  if (t.equal(py::dtype::of<float>())) return DType::f32;
  if (t.equal(py::dtype::of<uint8_t>())) return DType::u8;
  throw py::type_error(what + " must be float32 or uint8, not " + py::str(t).cast<std::string>());
}

py::array contiguous(const py::handle& h, const std::string& what) {
  py::array a = py::array::ensure(h, py::array::c_style);
  if (!a) {
    PyErr_Clear();
    throw py::type_error(what + " is not an array");
  }
  return a;
}

}  // namespace

std::string shape_text(const Shape& shape) {
  std::string s = "(";
  for (size_t i = 0; i < shape.size(); i++) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + ")";
}

const DeviceArray& on_device(const py::handle& h, const OpenDevice& target, const std::string& what) {
  const auto& a = h.cast<const DeviceArray&>();
  if (!a.target.same_device(target))
    throw DeviceError(what + " lies on " + a.device() + ", but the model runs on " + target.name + "; move it with .to('" +
                      target.name + "')");
  return a;
}

int rows_of(int64_t rows, const std::string& what) {
  if (rows < 1) throw py::value_error(what + " is empty; a batch needs at least one sample");
  if (rows > std::numeric_limits<int32_t>::max())
    throw py::value_error(what + " holds " + std::to_string(rows) + " samples; the most at once is " +
                          std::to_string(std::numeric_limits<int32_t>::max()) + ": pass it in parts");
  return static_cast<int>(rows);
}

Shape shape_of(const py::handle& h, const std::string& what) {
  if (py::isinstance<DeviceArray>(h)) return h.cast<const DeviceArray&>().shape;
  const py::array a = py::array::ensure(h);
  if (!a) {
    PyErr_Clear();
    throw py::type_error(what + " is not an array");
  }
  return {a.shape(), a.shape() + a.ndim()};
}

Source source_of(const py::handle& h, const OpenDevice& target, const std::string& what) {
  if (py::isinstance<DeviceArray>(h)) {
    const DeviceArray& a = on_device(h, target, what);
    py::object keep = py::reinterpret_borrow<py::object>(h);
    const bool whole = !target.device->checks() && reinterpret_cast<uintptr_t>(a.data) % kAlignment == 0;
    if (!whole) keep = keep.attr("copy")();  // a part of another array: the device's own is aligned, and has bounds to check
    const auto& used = keep.cast<const DeviceArray&>();
    return {keep, used.data, dtype_of(a.dtype(), what), a.shape, true};
  }
  const py::array a = contiguous(h, what);
  const bool on_cpu = std::string(target.library->kind) == "cpu";  // whose memory is Python's
  return {a, a.data(), dtype_of(a.dtype(), what), {a.shape(), a.shape() + a.ndim()}, on_cpu};
}

AugmentedBatch::AugmentedBatch(py::object given, py::array_t<int32_t, py::array::c_style> of, int32_t epoch,
                               const py::dict& changes)
    : images(std::move(given)), numbers(std::move(of)) {
  what = {read_attributes<AugmentImages>(changes, "augmented images"), numbers.data(), epoch};
}

namespace {

// Arrays checked against the values they feed; `keep` holds them alive.
std::vector<HostBatch> to_batches(const OpenDevice& target, const std::vector<Shape>& shapes,
                                  const std::vector<std::string>& names, const py::list& arrays, const char* role, int batch,
                                  std::vector<py::object>& keep) {
  if (arrays.size() != shapes.size())
    throw py::value_error("the model takes " + std::to_string(shapes.size()) + " " + role + " array(s), got " +
                          std::to_string(arrays.size()));
  std::vector<HostBatch> out;
  for (size_t i = 0; i < shapes.size(); i++) {
    const std::string what = std::string(role) + " '" + names[i] + "'";
    const Shape& shape = shapes[i];
    const auto* augmented = py::isinstance<AugmentedBatch>(arrays[i]) ? &arrays[i].cast<const AugmentedBatch&>() : nullptr;
    const py::object array = augmented ? augmented->images : py::object(arrays[i]);
    const Shape given = shape_of(array, what);
    if (given.size() != shape.size() + 1 || !std::equal(shape.begin(), shape.end(), given.begin() + 1))
      throw py::value_error(what + " must have the shape " + expected_text(shape) + ", got " + shape_text(given));
    const int rows = rows_of(given[0], what);
    if (batch > 0 && rows != batch)
      throw py::value_error(what + " holds " + std::to_string(rows) + " samples, the other arrays hold " + std::to_string(batch));
    batch = rows;
    if (augmented && augmented->numbers.size() != rows)
      throw py::value_error(what + " holds " + std::to_string(rows) + " samples and " +
                            std::to_string(augmented->numbers.size()) + " numbers of samples");
    const Source a = source_of(array, target, what);
    if (a.shape != given) throw py::value_error(what + " changed its shape while it was being read");
    out.push_back({a.data, a.dtype, batch, a.resident, augmented ? &augmented->what : nullptr});
    keep.push_back(a.keep);
    if (augmented) keep.push_back(arrays[i]);
  }
  return out;
}

}  // namespace

Batches::Batches(const Session& s, const py::list& in, const py::list& out) {
  const Graph& g = s.graph();
  std::vector<Shape> shapes;
  std::vector<std::string> names;
  for (const int v : g.inputs) {
    shapes.push_back(g.shape(v));
    names.push_back(g.values[static_cast<size_t>(v)].name);
  }
  inputs = to_batches(s.target(), shapes, names, in, "input", 0, keep);
  if (out.empty()) return;
  shapes = target_shapes(g, g.outputs, s.losses());
  names.clear();
  for (size_t t = 0; t < shapes.size(); t++) names.push_back(std::to_string(t));
  for (const LossSpec& l : s.losses())  // a target is known by the output it is compared with
    if (l.target >= 0)
      names[static_cast<size_t>(l.target)] = g.values[static_cast<size_t>(g.outputs[static_cast<size_t>(l.output)])].name;
  targets = to_batches(s.target(), shapes, names, out, "target", inputs.at(0).batch, keep);
}

bool Batches::borrowed() const {
  return std::any_of(inputs.begin(), inputs.end(), [](const HostBatch& b) { return b.resident; }) ||
         std::any_of(targets.begin(), targets.end(), [](const HostBatch& b) { return b.resident; });
}

}  // namespace warploom
