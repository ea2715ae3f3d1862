// array.cpp - arrays in device memory for Python: made, shared through DLPack, __cuda_array_interface__ and the buffer protocol.
#include "csrc/bindings/array.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>

#include "csrc/bindings/bindings.h"
#include "csrc/bindings/dlpack.h"
#include "csrc/bindings/native.h"
#include "csrc/core/checked.h"

namespace warploom {
namespace {

constexpr std::array<ElementType, 12> kTypes = {{
    {"float32", "<f4", dlpack::kFloat, 32},
    {"float64", "<f8", dlpack::kFloat, 64},
    {"float16", "<f2", dlpack::kFloat, 16},
    {"uint8", "|u1", dlpack::kUInt, 8},
    {"int32", "<i4", dlpack::kInt, 32},
    {"int64", "<i8", dlpack::kInt, 64},
    {"int8", "|i1", dlpack::kInt, 8},
    {"int16", "<i2", dlpack::kInt, 16},
    {"uint16", "<u2", dlpack::kUInt, 16},
    {"uint32", "<u4", dlpack::kUInt, 32},
    {"uint64", "<u8", dlpack::kUInt, 64},
    {"bool", "|b1", dlpack::kBool, 8},
}};
constexpr const char* kKnownTypes = "float16, float32, float64, bool and the integer types of 8 to 64 bits";

// The number of elements; ValueError for a negative size, and for more bytes than an address counts.
int64_t product(const std::vector<int64_t>& shape) {
  Checked count = 1, largest = 1;  // an empty axis does not make the others' product small
  for (const int64_t size : shape) {
    if (size < 0) throw py::value_error("a shape cannot hold the negative size " + std::to_string(size));
    count *= size;
    largest *= std::max<int64_t>(size, 1);
  }
  if (!largest.fits(0, kMostBytes))
    throw py::value_error("an array of so many elements (" + largest.text() + ") cannot be addressed");
  return count.between(0, kMostBytes, "the number of elements");
}

const ElementType& require_type(const py::dtype& dtype) {
  if (const ElementType* t = element_type(dtype)) return *t;
  throw py::type_error("an array of " + py::str(dtype).cast<std::string>() + " cannot be shared; warploom takes " + kKnownTypes);
}

py::tuple shape_tuple(const DeviceArray& a) { return py::tuple(py::cast(a.shape)); }

// ---- Making ----

DeviceArray from_host(const py::array& array, const std::string& device) {
  const py::array dense = py::array::ensure(array, py::array::c_style);
  DeviceArray a = DeviceArray::allocate(open_device(device), require_type(dense.dtype()),
                                        {dense.shape(), dense.shape() + dense.ndim()}, "an array");
  if (a.bytes()) {
    const void* data = dense.data();
    const NativeCall call;
    a.target.device->copy_in(a.data, data, a.bytes());
  }
  return a;
}

std::shared_ptr<void> keep(const py::object& o) {
  return {new py::object(o), [](void* p) {
            if (!Py_IsInitialized()) return;  // the interpreter is gone, and the object with it
            py::gil_scoped_acquire gil;
            delete static_cast<py::object*>(p);
          }};
}

DeviceArray borrow(const std::string& device, uintptr_t pointer, std::vector<int64_t> shape, const py::dtype& dtype,
                   bool writable, const py::object& owner) {
  product(shape);
  return {open_device(device), keep(owner), reinterpret_cast<char*>(pointer), &require_type(dtype), std::move(shape), writable};
}

DeviceArray wrap_host(const py::array& array, const std::string& device) {
  if (!(array.flags() & py::array::c_style)) throw py::value_error("only an array in C order can be shared without a copy");
  return borrow(device, reinterpret_cast<uintptr_t>(array.data()), {array.shape(), array.shape() + array.ndim()}, array.dtype(),
                array.writeable(), array);
}

py::array view(const py::object& self) {  // of an array on the host
  const auto& a = self.cast<const DeviceArray&>();
  py::array array(a.dtype(), std::vector<py::ssize_t>(a.shape.begin(), a.shape.end()), a.data, self);
  if (!a.writable) array.attr("flags").attr("writeable") = false;
  return array;
}

py::array to_numpy(const py::object& self) {
  const auto& a = self.cast<const DeviceArray&>();
  if (a.target.on_host()) return view(self);
  py::array array(a.dtype(), std::vector<py::ssize_t>(a.shape.begin(), a.shape.end()));
  void* data = array.mutable_data();
  const NativeCall call;
  if (a.bytes()) a.target.device->copy_out(data, a.data, a.bytes());
  return array;
}

DeviceArray copied(const DeviceArray& a) {
  DeviceArray b = DeviceArray::allocate(a.target, *a.type, a.shape, "a copy of an array");
  const NativeCall call;
  if (a.bytes()) a.target.device->copy(b.data, a.data, a.bytes());
  a.target.device->synchronize();
  return b;
}

py::object moved(const py::object& self, const std::string& device) {
  const auto& a = self.cast<const DeviceArray&>();
  if (open_device(device).same_device(a.target)) return self;
  return py::cast(from_host(to_numpy(self), device));
}

void assign(DeviceArray& a, const py::object& source) {  // a[...] = source, of the same shape and type
  if (!a.writable) throw py::value_error("this array is read-only: its owner shares it so");
  const bool on_device = py::isinstance<DeviceArray>(source);
  const DeviceArray* other = on_device ? &source.cast<const DeviceArray&>() : nullptr;
  if (other && !other->target.same_device(a.target))
    throw DeviceError("the arrays lie on " + a.device() + " and " + other->device() + "; move one with .to('" + a.device() +
                      "')");
  const py::array host = on_device ? py::array() : py::array::ensure(source, py::array::c_style);
  const bool same_type = on_device ? other->type == a.type : host && element_type(host.dtype()) == a.type;
  const std::vector<int64_t> shape =
      on_device ? other->shape : std::vector<int64_t>(host.shape(), host.shape() + (host ? host.ndim() : 0));
  if (!same_type || shape != a.shape)
    throw py::value_error("what is copied into an array must have its shape " + a.shape_text() + " and type " + a.type->name);
  if (!a.bytes()) return;
  const void* data = on_device ? other->data : host.data();
  const NativeCall call;
  if (on_device) {
    a.target.device->copy(a.data, data, a.bytes());
    a.target.device->synchronize();
  } else {
    a.target.device->copy_in(a.data, data, a.bytes());
  }
}

DeviceArray reshaped(const DeviceArray& a, const py::args& args) {
  const py::object given = args.size() == 1 && !py::isinstance<py::int_>(args[0]) ? py::object(args[0]) : py::object(args);
  std::vector<int64_t> shape = given.cast<std::vector<int64_t>>();
  const auto open = std::find(shape.begin(), shape.end(), -1);  // at most one
  if (open != shape.end()) {
    *open = 1;
    const int64_t known = product(shape);
    *open = known > 0 ? a.size() / known : 0;
  }
  DeviceArray b = a;
  b.shape = std::move(shape);
  if (product(b.shape) != a.size())
    throw py::value_error("an array of shape " + a.shape_text() + " cannot take the shape " + b.shape_text());
  return b;
}

// Rows: a[i], a[i:j]. What is not dense is not a view.
DeviceArray rows(const DeviceArray& a, const py::object& key) {
  if (a.shape.empty()) throw py::index_error("an array without axes has no rows");
  const int64_t stride = a.shape[0] ? a.bytes() / a.shape[0] : 0;
  DeviceArray b = a;
  if (py::isinstance<py::slice>(key)) {
    py::ssize_t start, stop, step, length;
    if (!key.cast<py::slice>().compute(a.shape[0], &start, &stop, &step, &length)) throw py::error_already_set();
    if (step != 1) throw py::index_error("rows of a device array can be taken one after the other only (step 1)");
    b.shape[0] = length;
    b.data += start * stride;
    return b;
  }
  if (!py::isinstance<py::int_>(key))
    throw py::type_error("a device array is indexed by a row number or a range of rows; for more use .numpy() or DLPack");
  const auto asked = key.cast<int64_t>();
  const int64_t row = asked < 0 ? asked + a.shape[0] : asked;
  if (row < 0 || row >= a.shape[0])
    throw py::index_error("row " + std::to_string(asked) + " does not exist: there are " + std::to_string(a.shape[0]));
  b.shape.erase(b.shape.begin());
  b.data += row * stride;
  return b;
}

// ---- DLPack ----

struct Export {  // what a capsule holds: the array (and with it its owner), and the numbers the struct points at
  DeviceArray array;
  std::vector<int64_t> shape, strides;
  dlpack::Managed plain;
  dlpack::ManagedVersioned versioned;
};

dlpack::Device dlpack_device(const DeviceArray& a) {
  if (a.target.on_host()) return {dlpack::kCpu, 0};
  return {dlpack::kCuda, a.target.index};
}

void let_go(PyObject* capsule) {  // a capsule that nobody took
  if (PyCapsule_IsValid(capsule, dlpack::kPlain)) {
    auto* m = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule, dlpack::kPlain));
    m->deleter(m);
  } else if (PyCapsule_IsValid(capsule, dlpack::kVersioned)) {
    auto* m = static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule, dlpack::kVersioned));
    m->deleter(m);
  }
}

py::object to_dlpack(const DeviceArray& self, const py::object& stream, const std::optional<std::pair<int, int>>& max_version,
                     const std::optional<std::pair<int, int>>& dl_device, const std::optional<bool>& copy) {
  (void)stream;  // an array in Python's hands is complete, so there is nothing for another stream to wait for
  const dlpack::Device here = dlpack_device(self);
  if (dl_device && *dl_device != std::make_pair(int(here.type), int(here.id))) {
    py::set_error(PyExc_BufferError, ("this array lies on " + self.device() + " and is handed over only there").c_str());
    throw py::error_already_set();
  }
  const bool versioned = max_version && max_version->first >= 1;
  const bool copies = copy.value_or(false);
  if (!versioned && !self.writable && !copies) {
    py::set_error(PyExc_BufferError, "a read-only array can be handed over only to a library that knows DLPack 1.0");
    throw py::error_already_set();
  }
  auto e = std::make_unique<Export>();
  e->array = copies ? copied(self) : self;
  e->shape = e->array.shape;
  e->strides.assign(e->shape.size(), 1);
  for (size_t i = e->shape.size(); i-- > 1;) e->strides[i - 1] = e->strides[i] * e->shape[i];
  const ElementType& t = *e->array.type;
  const dlpack::Tensor tensor{
      e->array.data, here, static_cast<int32_t>(e->shape.size()), {t.code, t.bits, 1}, e->shape.data(), e->strides.data(), 0};
  Export* raw = e.release();
  if (versioned) {
    const uint64_t flags = (raw->array.writable ? 0 : dlpack::kReadOnly) | (copies ? dlpack::kIsCopied : 0);
    raw->versioned = {1, 0, raw, [](dlpack::ManagedVersioned* m) { delete static_cast<Export*>(m->context); }, flags, tensor};
    return py::reinterpret_steal<py::object>(PyCapsule_New(&raw->versioned, dlpack::kVersioned, &let_go));
  }
  raw->plain = {tensor, raw, [](dlpack::Managed* m) { delete static_cast<Export*>(m->context); }};
  return py::reinterpret_steal<py::object>(PyCapsule_New(&raw->plain, dlpack::kPlain, &let_go));
}

template <class M>
std::shared_ptr<void> take(PyObject* capsule, const char* name, const char* taken, M** managed) {
  *managed = static_cast<M*>(PyCapsule_GetPointer(capsule, name));
  PyCapsule_SetName(capsule, taken);
  return {*managed, [](void* p) {
            auto* m = static_cast<M*>(p);
            if (m->deleter) m->deleter(m);
          }};
}

// The array a capsule holds; `device` is where its producer says it lies.
DeviceArray from_dlpack(const py::object& capsule, const std::string& device) {
  DeviceArray a;
  const dlpack::Tensor* t = nullptr;
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::kVersioned)) {
    dlpack::ManagedVersioned* m;
    a.owner = take(capsule.ptr(), dlpack::kVersioned, dlpack::kVersionedTaken, &m);
    if (m->major != 1)
      throw py::value_error("the array comes as DLPack " + std::to_string(m->major) + "; warploom knows version 1");
    a.writable = !(m->flags & dlpack::kReadOnly);
    t = &m->tensor;
  } else if (PyCapsule_IsValid(capsule.ptr(), dlpack::kPlain)) {
    dlpack::Managed* m;
    a.owner = take(capsule.ptr(), dlpack::kPlain, dlpack::kPlainTaken, &m);
    t = &m->tensor;
  } else {
    throw py::type_error("this is no DLPack capsule, or one that has been taken already");
  }
  for (const ElementType& known : kTypes)
    if (t->dtype.lanes == 1 && known.code == t->dtype.code && known.bits == t->dtype.bits) a.type = &known;
  if (!a.type)
    throw py::type_error(std::string("the array holds ") + (t->dtype.code == dlpack::kBfloat ? "bfloat16" : "elements") +
                         " that cannot be shared; warploom takes " + kKnownTypes);
  if (t->ndim < 0 || (t->ndim > 0 && !t->shape)) throw py::value_error("the array's DLPack struct has no shape");
  a.shape.assign(t->shape, t->shape + t->ndim);
  const int64_t count = product(a.shape);
  int64_t dense = 1;
  for (int i = t->ndim; t->strides && count > 0 && i-- > 0;) {
    if (t->shape[i] != 1 && t->strides[i] != dense)
      throw py::value_error("the array of shape " + a.shape_text() +
                            " is not in C order: pass a contiguous one (x.contiguous() in PyTorch, ascontiguousarray elsewhere)");
    dense *= t->shape[i];
  }
  a.data = static_cast<char*>(t->data) + t->byte_offset;
  a.target = open_device(device);
  return a;
}

py::dict cuda_array_interface(const DeviceArray& a) {
  if (a.target.on_host())
    throw py::attribute_error("an array on " + a.device() + " is host memory and has no __cuda_array_interface__");
  py::dict d;
  d["shape"] = shape_tuple(a);
  d["typestr"] = a.type->typestr;
  d["data"] = py::make_tuple(a.size() ? reinterpret_cast<uintptr_t>(a.data) : 0, !a.writable);
  d["strides"] = py::none();
  d["version"] = 3;
  d["stream"] = reinterpret_cast<uintptr_t>(a.target.device->stream());
  return d;
}

// "cuda:1" for memory of that GPU, "" for what belongs to no device.
std::string device_of(uintptr_t pointer) {
  for (const LoadedLibrary& l : loaded_libraries()) {
    if (!l.usable() || !l.interop) continue;
    const int index = l.interop->device_of(reinterpret_cast<const void*>(pointer));
    if (index >= 0) return l.kind + ":" + std::to_string(index);
  }
  return "";
}

// What waits: another stream of the device, or 0, its own.
void wait_for(const std::string& device, uintptr_t stream, uintptr_t waits) {
  const OpenDevice d = open_device(device);
  void* own = d.device->stream();
  if (d.interop) d.interop->wait_for(d.index, waits ? reinterpret_cast<void*>(waits) : own, stream);
}

}  // namespace

const ElementType* element_type(const py::dtype& dtype) {
  for (const ElementType& t : kTypes)
    if (dtype.equal(py::dtype(t.name))) return &t;
  return nullptr;
}

const ElementType& element_type(DType t) {
  switch (t) {
    case DType::f64:
      return kTypes[1];
    case DType::u8:
      return kTypes[3];
    case DType::i32:
      return kTypes[4];
    case DType::f32:
      return kTypes[0];
    default:
      return kTypes[8];
  }
}

int64_t DeviceArray::size() const { return product(shape); }

std::string DeviceArray::shape_text() const {
  std::string s = "(";
  for (size_t i = 0; i < shape.size(); i++) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + (shape.size() == 1 ? ",)" : ")");
}

DeviceArray DeviceArray::allocate(const OpenDevice& target, const ElementType& type, std::vector<int64_t> shape,
                                  const std::string& what) {
  DeviceMemory memory(target.device, product(shape) * type.bytes(), what);
  char* data = memory.data();
  return adopt(target, std::move(memory), data, type, std::move(shape));
}

DeviceArray DeviceArray::adopt(const OpenDevice& target, DeviceMemory memory, char* data, const ElementType& type,
                               std::vector<int64_t> shape) {
  return {target, std::make_shared<DeviceMemory>(std::move(memory)), data, &type, std::move(shape), true};
}

void bind_array(py::module_& m) {
  py::class_<DeviceArray>(m, "DeviceArray", py::buffer_protocol())
      .def_buffer([](DeviceArray& a) {
        if (!a.target.on_host())
          throw DeviceError("an array on " + a.device() + " cannot be read in place; copy it with .numpy()");
        std::vector<py::ssize_t> shape(a.shape.begin(), a.shape.end()), strides(shape.size(), a.type->bytes());
        for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
        const auto format = a.dtype().attr("char").cast<std::string>();
        return py::buffer_info(a.data, a.type->bytes(), format, static_cast<py::ssize_t>(shape.size()), shape, strides,
                               !a.writable);
      })
      .def_property_readonly("shape", &shape_tuple)
      .def_property_readonly("dtype", &DeviceArray::dtype)
      .def_property_readonly("ndim", [](const DeviceArray& a) { return a.shape.size(); })
      .def_property_readonly("size", &DeviceArray::size)
      .def_property_readonly("nbytes", &DeviceArray::bytes)
      .def_property_readonly("device", [](const DeviceArray& a) { return a.device(); })
      .def_property_readonly("pointer", [](const DeviceArray& a) { return reinterpret_cast<uintptr_t>(a.data); })
      .def_property_readonly("writable", [](const DeviceArray& a) { return a.writable; })
      .def_property_readonly("on_host", [](const DeviceArray& a) { return a.target.on_host(); })
      .def("__len__",
           [](const DeviceArray& a) {
             if (a.shape.empty()) throw py::type_error("an array without axes has no length");
             return a.shape[0];
           })
      .def("__getitem__", &rows, py::arg("rows"))
      .def("reshape", &reshaped)
      .def("copy", &copied)
      .def("assign", &assign, py::arg("source"))
      .def("to", &moved, py::arg("device"))
      .def("numpy", &to_numpy)
      .def("__float__",
           [](const py::object& self) {
             if (self.cast<const DeviceArray&>().size() != 1) throw py::type_error("only an array of one element is a number");
             return to_numpy(self).attr("item")().cast<double>();
           })
      .def(
          "__array__",
          [](const py::object& self, const py::object& dtype, const py::object& copy) {
            const auto& a = self.cast<const DeviceArray&>();
            if (!a.target.on_host())
              throw py::type_error("an array on " + a.device() +
                                   " is not turned into a NumPy array by itself; copy it with .numpy()");
            py::object array = view(self);
            if (!dtype.is_none()) array = array.attr("astype")(dtype, py::arg("copy") = false);
            return !copy.is_none() && copy.cast<bool>() ? py::object(array.attr("copy")()) : array;
          },
          py::arg("dtype") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack__", &to_dlpack, py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
           py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__",
           [](const DeviceArray& a) {
             const dlpack::Device d = dlpack_device(a);
             return py::make_tuple(static_cast<int>(d.type), d.id);
           })
      .def_property_readonly("__cuda_array_interface__", &cuda_array_interface)
      .def("__repr__", [](const DeviceArray& a) {
        return "warploom.Array(shape=" + a.shape_text() + ", dtype=" + a.type->name + ", device='" + a.device() + "'" +
               (a.writable ? ")" : ", read-only)");
      });
  m.def(
      "array_empty",
      [](const std::vector<int64_t>& shape, const py::object& dtype, const std::string& device) {
        return DeviceArray::allocate(open_device(device), require_type(py::dtype::from_args(dtype)), shape, "an array");
      },
      py::arg("shape"), py::arg("dtype"), py::arg("device"));
  m.def("array_from_host", &from_host, py::arg("array"), py::arg("device"));
  m.def("array_on_host", &wrap_host, py::arg("array"), py::arg("device") = "cpu");
  m.def("array_borrowed", &borrow, py::arg("device"), py::arg("pointer"), py::arg("shape"), py::arg("dtype"), py::arg("writable"),
        py::arg("owner"));
  m.def("array_from_dlpack", &from_dlpack, py::arg("capsule"), py::arg("device"));
  m.def("device_of", &device_of, py::arg("pointer"));
  m.def(
      "stream_of", [](const std::string& device) { return reinterpret_cast<uintptr_t>(open_device(device).device->stream()); },
      py::arg("device"));
  m.def("wait_for", &wait_for, py::arg("device"), py::arg("stream"), py::arg("waits") = 0);
}

}  // namespace warploom
