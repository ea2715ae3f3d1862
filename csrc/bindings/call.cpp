// call.cpp - one entry of one version, straight from Python: what the eager ops, the tests and the benchmarks use.
//
// Buffers are flat arrays in the version's own layouts: NumPy's, or arrays in the device's memory, which are read in place. With
// guard=True every output starts as 0xFF bytes (NaN) between guard bands, so that a missed element or a write past the end shows
// on any device.
#include <cxxabi.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "csrc/bindings/array.h"
#include "csrc/bindings/attributes.h"
#include "csrc/bindings/bindings.h"
#include "csrc/bindings/native.h"
#include "csrc/core/checked.h"
#include "csrc/core/device_memory.h"
#include "csrc/core/errors.h"
#include "csrc/core/registry.h"

namespace warploom {
namespace {

constexpr int64_t kGuardBytes = 512;
constexpr int64_t kFlushBytes = int64_t(192) << 20;  // more than any GPU's L2 cache

py::dtype numpy_dtype(DType t) {
  switch (t) {
    case DType::f64:
      return py::dtype("float64");
    case DType::u8:
      return py::dtype("uint8");
    case DType::i32:
      return py::dtype("int32");
    case DType::f32:
      return py::dtype("float32");
    default:
      return py::dtype("uint16");  // bf16 and f16 cross as their bits
  }
}

struct Binding {
  std::string name;
  const char* role;
  DType dtype;
  int64_t bytes;
  DeviceMemory memory;  // empty: the data are read or written where Python has them
  char* data;           // inside memory, after the front guard
  py::object source;    // of an input; of an output that is written in place
};

// Allocates and fills a device buffer for every tensor of the struct and points the struct at it.
struct Binder {
  const OpenDevice& target;
  const std::string& entry;
  const py::dict& inputs;
  const std::set<std::string>* wanted;  // nullptr: every mandatory output
  int64_t saved_bytes;
  bool guard;
  int offset;      // bytes by which inputs lie off the grid of allocations: what other libraries' arrays may do
  bool to_python;  // outputs are written straight into NumPy arrays where the device's memory is Python's
  const std::map<std::string, std::string>& over;  // outputs that stand where an input does
  std::list<Binding> bindings;

  void require_dtype(const char* name, const py::dtype& got, DType wanted_type) const {
    if (!got.equal(numpy_dtype(wanted_type)))
      throw py::type_error(entry + ": input '" + name + "' must be " + py::str(numpy_dtype(wanted_type)).cast<std::string>() +
                           ", not " + py::str(got).cast<std::string>());
  }

  template <class T>
  void attr(const char*, T&) {}
  template <class B>
  void tensor(const char* name, B& field, DType dtype, int64_t count, bool optional) {
    if (const Binding* b = bind(name, role_of<B>(), dtype, count, optional)) field.data = b->data, field.bytes = b->bytes;
  }
  const Binding* bind(const char* name, const char* role, DType dtype, int64_t count, bool optional);  // nullptr: left empty
};

const Binding* Binder::bind(const char* name, const char* role, DType dtype, int64_t count, bool optional) {
  const bool is_in = std::strcmp(role, "out") != 0;
  if (count < kEntryDecides || count > kMostBytes / 8)
    throw GraphError(entry + ": '" + std::string(name) + "' would hold " + (count < 0 ? "fewer than 0" : "more than 2^49") +
                     " elements; the sizes are wrong");
  int64_t bytes = count == kEntryDecides ? -1 : count * dtype_bytes(dtype);
  py::object source;
  const void* given = nullptr;
  bool on_device = false;
  if (is_in) {
    if (!inputs.contains(name)) {
      if (optional) return nullptr;
      throw py::type_error(entry + " needs the input '" + name + "'");
    }
    source = inputs[name];
    int64_t nbytes = 0;
    if (py::isinstance<DeviceArray>(source)) {
      const auto& a = source.cast<const DeviceArray&>();
      on_device = true;
      if (!a.target.same_device(target))
        throw DeviceError(entry + ": input '" + name + "' lies on " + a.device() + ", but the call runs on " + target.name);
      require_dtype(name, a.dtype(), dtype);
      given = a.data, nbytes = a.bytes();
    } else {
      const py::array array = py::array::ensure(source, py::array::c_style);
      if (!array) throw py::type_error(entry + ": input '" + std::string(name) + "' is not an array");
      require_dtype(name, array.dtype(), dtype);
      given = array.data(), nbytes = array.nbytes();
      source = array;
    }
    if (bytes < 0) bytes = nbytes;
    if (nbytes != bytes)
      throw py::value_error(entry + ": input '" + std::string(name) + "' must hold " +
                            std::to_string(bytes / dtype_bytes(dtype)) + " elements, not " +
                            std::to_string(nbytes / dtype_bytes(dtype)));
  } else {
    if (bytes < 0) bytes = saved_bytes;
    if (bytes == 0 && optional) return nullptr;
    if (const auto shared = over.find(name); shared != over.end()) {
      for (Binding& b : bindings)
        if (b.name == shared->second && b.bytes == bytes && b.dtype == dtype) return b.role = role_of<InOut>(), &b;
      throw py::value_error(entry + ": no input '" + shared->second + "' was given that is stored like '" + name + "'");
    }
    if (wanted ? !wanted->count(name) : (optional && std::string(name) != "saved")) {
      if (!optional) throw py::value_error(entry + ": output '" + std::string(name) + "' is mandatory");
      return nullptr;
    }
  }
  const bool on_cpu = std::string(target.library->kind) == "cpu";  // whose memory is Python's
  const bool aligned = reinterpret_cast<uintptr_t>(given) % kAlignment == 0;
  bool in_place = !guard && !offset && !target.device->checks() && std::string(role) != "inout";
  if (is_in) {
    in_place = in_place && bytes > 0 && (on_cpu || (on_device && aligned));
  } else {
    in_place = in_place && on_cpu && to_python;
  }
  if (in_place) {
    if (!is_in) {
      py::array array(numpy_dtype(dtype), std::vector<py::ssize_t>{bytes / dtype_bytes(dtype)});
      given = array.mutable_data();
      source = array;
    }
    bindings.push_back({name, role, dtype, bytes, {}, static_cast<char*>(const_cast<void*>(given)), source});
  } else {
    const int64_t off = is_in ? offset : 0, band = guard ? kGuardBytes : 0;
    bindings.push_back({name, role, dtype, bytes, DeviceMemory(target.device, bytes + 2 * band + off, entry + "." + name),
                        nullptr, is_in ? source : py::object()});
    Binding& b = bindings.back();
    b.data = b.memory.data() + band + off;
    if (band) target.device->fill(b.memory.data(), 0xFF, bytes + 2 * band + off);
    if (is_in && on_device) target.device->copy(b.data, given, bytes);
    if (is_in && !on_device) target.device->copy_in(b.data, given, bytes);
  }
  return &bindings.back();
}

py::array read_back(Device& device, const Binding& b) {
  if (!b.memory && std::string(b.role) == "out") return py::reinterpret_borrow<py::array>(b.source);
  py::array array(numpy_dtype(b.dtype), std::vector<py::ssize_t>{b.bytes / dtype_bytes(b.dtype)});
  device.copy_out(array.mutable_data(), b.data, b.bytes);
  return array;
}

bool same_bytes(const py::array& a, const py::array& b) {
  return a.nbytes() == b.nbytes() && std::memcmp(a.data(), b.data(), static_cast<size_t>(a.nbytes())) == 0;
}

void check_bands(Device& device, const char* data, int64_t bytes, const std::string& who, const std::string& what) {
  std::vector<unsigned char> band(kGuardBytes);
  for (const char* at : {data - kGuardBytes, data + bytes}) {
    device.copy_out(band.data(), at, kGuardBytes);
    for (const unsigned char c : band)
      if (c != 0xFF)
        throw KernelFault(who + " wrote " + (at < data ? "before the start" : "past the end") + " of '" + what + "'");
  }
}

// What a call is beside its arguments' types: nothing below is compiled once per operation but read_attributes and visit.
struct Call {
  const OpenDevice& target;
  const std::string &version, &name;
  const py::dict &attributes, &inputs;
  const std::set<std::string>* outputs;
  bool guard, keep;
  int repeat, offset;
  const std::map<std::string, std::string>& over;

  void refuse(bool there, const std::string& why) const {
    if (!there) throw UnsupportedError("version '" + version + "' has no " + name);
    if (!why.empty()) throw UnsupportedError(version + " refuses " + name + ": " + why);
  }
  Binder binder(int64_t saved_bytes) const {
    return {target, name, inputs, outputs, saved_bytes, guard, offset, !keep && repeat == 0, over, {}};
  }
  py::dict run(Binder& binder, int64_t workspace_bytes, const std::function<void(const Context&)>& run) const;
};

template <class Args>
py::dict run_entry(const Call& call, const Entry<Args>& entry) {
  std::string negative;
  Args args = read_attributes<Args>(call.attributes, call.name, &negative);
  call.refuse(entry.run != nullptr, entry.run && entry.why_not ? entry.why_not(args) : "");
  if (!negative.empty()) throw GraphError(call.name + ": " + negative + " must not be negative");
  Binder binder = call.binder(entry.saved_bytes ? entry.saved_bytes(args) : 0);
  Args::visit(args, binder);
  return call.run(binder, entry.workspace_bytes ? entry.workspace_bytes(args) : 0,
                  [&](const Context& context) { entry.run(args, context); });
}

py::dict Call::run(Binder& binder, int64_t workspace_bytes, const std::function<void(const Context&)>& run) const {
  for (const auto& item : inputs) {
    const std::string key = item.first.cast<std::string>();
    bool found = false;
    for (const auto& b : binder.bindings) found = found || b.name == key;
    if (!found) throw py::type_error(name + " has no input '" + key + "'");
  }

  Device& device = *target.device;
  Context context;
  context.stream = device.stream();
  context.device = &device.info();
  DeviceMemory workspace;
  if (workspace_bytes > 0) {
    const int64_t band = guard ? kGuardBytes : 0;
    workspace = DeviceMemory(target.device, workspace_bytes + 2 * band, name + " workspace");
    if (guard) device.fill(workspace.data(), 0xFF, workspace_bytes + 2 * band);
    context.workspace.data = workspace.data() + band;
    context.workspace.bytes = workspace_bytes;
  }
  std::vector<Region> regions;
  for (const auto& b : binder.bindings) {
    const std::string role = b.role;
    regions.push_back({b.name, b.data, b.bytes,
                       role == "in"    ? Region::read
                       : role == "out" ? Region::write
                                       : Region::read_write});
  }
  if (workspace_bytes > 0) regions.push_back({"workspace", context.workspace.data, workspace_bytes, Region::write});

  auto once = [&] {
    device.begin_call(name.c_str(), regions);
    try {
      run(context);
    } catch (...) {
      device.end_call();
      throw;
    }
    device.end_call();
  };
  py::dict result;
  {
    const NativeCall call;
    once();
    device.synchronize();
  }
  for (const auto& b : binder.bindings) {
    if (std::string(b.role) == "in") continue;
    if (!keep) result[b.name.c_str()] = read_back(device, b);
  }
  if (guard) {
    const std::string who = version + " " + name;
    for (const auto& b : binder.bindings) {
      check_bands(device, b.data, b.bytes, who, b.name);
      if (std::string(b.role) == "in" &&
          !same_bytes(
              read_back(device, b),
              py::array::ensure(py::isinstance<DeviceArray>(b.source) ? b.source.attr("numpy")() : b.source, py::array::c_style)))
        throw KernelFault(who + " changed its input '" + b.name + "'");
    }
    if (workspace_bytes > 0)
      check_bands(device, static_cast<const char*>(context.workspace.data), workspace_bytes, who, "workspace");
  }
  if (repeat > 0) {
    std::vector<double> times;
    DeviceMemory flush;
    if (std::string(target.library->kind) == "cuda") flush = DeviceMemory(target.device, kFlushBytes, "cache flush");
    {
      const NativeCall call;
      for (int i = 0; i < repeat; i++) {
        if (flush.data()) device.fill(flush.data(), i & 1, kFlushBytes);  // every run finds a cold cache, as in a training step
        device.mark(0);
        once();
        device.mark(1);
        device.synchronize();
        times.push_back(device.elapsed_ms(0, 1));
      }
    }
    for (const auto& b : binder.bindings)
      if (std::string(b.role) == "out" && !same_bytes(read_back(device, b), py::array(result[b.name.c_str()])))
        throw KernelFault(version + " " + name + " left other bits in '" + b.name + "' after being timed than before");
    result["milliseconds"] = py::array_t<double>(static_cast<py::ssize_t>(times.size()), times.data());
  }
  for (auto& b : binder.bindings) {
    if (!keep || std::string(b.role) == "in") continue;
    char* data = b.data;
    result[b.name.c_str()] =
        DeviceArray::adopt(target, std::move(b.memory), data, element_type(b.dtype), {b.bytes / dtype_bytes(b.dtype)});
  }
  return result;
}

py::dict call(const std::string& device, const std::string& version, const std::string& entry, const py::dict& attributes,
              const py::dict& inputs, const std::optional<std::vector<std::string>>& outputs, bool guard, int repeat, bool keep,
              int offset, const std::map<std::string, std::string>& over) {
  if (offset < 0 || offset % 4 || offset > 1024) throw py::value_error("offset is a multiple of 4 bytes, 0 to 1024");
  if (keep && (guard || repeat)) throw py::value_error("keep=True is for plain calls: without guard and repeat");
  if (!over.empty() && (!guard || repeat)) throw py::value_error("over is for calls with guard and without repeat");
  const OpenDevice target = open_device(device);
  const OpTable& table = target.table(version);
  const std::set<std::string> wanted =
      outputs ? std::set<std::string>(outputs->begin(), outputs->end()) : std::set<std::string>();
  const Call call{target, version, entry, attributes, inputs, outputs ? &wanted : nullptr, guard, keep, repeat, offset, over};
#define WL_OP(name, Args) \
  if (entry == #name) return run_entry<Args>(call, table.name);
#include "kernels/ops.def"
#undef WL_OP
  throw py::key_error("unknown operation '" + entry + "'; see entries()");
}

template <class Args>
std::string refusal(const Entry<Args>& entry, const py::dict& attributes, const std::string& name) {
  const Args args = read_attributes<Args>(attributes, name);
  if (!entry.run) return "this version has no " + name;
  return entry.why_not ? entry.why_not(args) : "";
}

std::string why_not(const std::string& device, const std::string& version, const std::string& entry, const py::dict& attributes) {
  const OpTable& table = open_device(device).table(version);
#define WL_OP(name, Args) \
  if (entry == #name) return refusal<Args>(table.name, attributes, entry);
#include "kernels/ops.def"
#undef WL_OP
  throw py::key_error("unknown operation '" + entry + "'; see entries()");
}

template <class Args>
py::dict needs_of(const Entry<Args>& entry, const py::dict& attributes, const std::string& name) {
  const Args args = read_attributes<Args>(attributes, name);
  const std::string why = !entry.run ? "this version has no " + name : entry.why_not ? entry.why_not(args) : "";
  if (!why.empty()) throw UnsupportedError(why);
  py::dict d;
  d["workspace"] = entry.workspace_bytes ? entry.workspace_bytes(args) : 0;
  d["saved"] = entry.saved_bytes ? entry.saved_bytes(args) : 0;
  d["algorithm"] = entry.algorithm ? entry.algorithm(args) : "";
  return d;
}

py::dict needs(const std::string& device, const std::string& version, const std::string& entry, const py::dict& attributes) {
  const OpTable& table = open_device(device).table(version);
#define WL_OP(name, Args) \
  if (entry == #name) return needs_of<Args>(table.name, attributes, entry);
#include "kernels/ops.def"
#undef WL_OP
  throw py::key_error("unknown operation '" + entry + "'; see entries()");
}

struct Describer {
  py::list tensors, attributes;
  template <class T>
  void attr(const char* name, T&) {
    attributes.append(name);
  }
  template <class B>
  void tensor(const char* name, B&, DType dtype, int64_t, bool optional) {
    py::dict d;
    d["name"] = name;
    d["role"] = role_of<B>();
    d["dtype"] = name_of(dtype);
    d["optional"] = optional;
    tensors.append(d);
  }
};

template <class Args>
void describe_entry(py::list& list, const char* name) {
  Args args;
  Describer v;
  Args::visit(args, v);
  py::dict d;
  d["name"] = name;
  d["tensors"] = v.tensors;
  d["attributes"] = v.attributes;
  list.append(d);
}

py::list entries() {
  py::list list;
#define WL_OP(name, Args) describe_entry<Args>(list, #name);
#include "kernels/ops.def"
#undef WL_OP
  return list;
}

py::dict info_dict(const DeviceInfo& i) {
  return py::dict(py::arg("name") = i.name, py::arg("compute_major") = i.compute_major,
                  py::arg("compute_minor") = i.compute_minor, py::arg("multiprocessors") = i.multiprocessors,
                  py::arg("shared_bytes_per_block") = i.shared_bytes_per_block,
                  py::arg("shared_bytes_optin") = i.shared_bytes_optin, py::arg("memory_bytes") = i.memory_bytes);
}

py::list libraries() {
  py::list list;
  for (const auto& l : loaded_libraries()) {
    py::dict d;
    py::list devices, names;
    std::string why = l.why;
    bool usable = l.usable();
    if (l.library)
      for (int i = 0; i < l.library->table_count; i++) names.append(l.library->tables[i]->version);
    for (int i = 0; i < (l.library ? l.devices : 0); i++) {
      try {  // a GPU this build holds no code for says so here, once, in words
        const std::string name = l.kind == "cuda" && i > 0 ? "cuda:" + std::to_string(i) : l.kind;
        if (l.kind == "cpu") {
          devices.append(info_dict(std::unique_ptr<Device>(l.library->open(i))->info()));
        } else {
          devices.append(info_dict(open_device(name).device->info()));
        }
      } catch (const DeviceError& e) {
        why = e.what();
      }
    }
    if (usable && devices.empty()) usable = false;
    d["kind"] = l.kind;
    d["path"] = l.path;
    d["usable"] = usable;
    d["why"] = why;
    d["devices"] = devices;
    d["versions"] = names;
    list.append(d);
  }
  return list;
}

py::list versions() {
  std::map<std::string, py::dict> seen;
  py::list list;
  for (const auto& l : loaded_libraries()) {
    if (!l.library) continue;
    for (int i = 0; i < l.library->table_count; i++) {
      const OpTable& t = *l.library->tables[i];
      if (!seen.count(t.version)) {
        py::dict d;
        d["name"] = t.version;
        d["summary"] = t.summary;
        d["float32_from"] = t.float32_from;
        d["compute_capability"] = t.compute_capability;
        d["own"] = own_entries(*l.library, t);
        d["layout"] = name_of(t.layout);
        d["weight_layout"] = name_of(t.weight_layout);
        d["gradients_read_y"] = t.gradients_read_y;
        d["kinds"] = py::list();
        seen[t.version] = d;
        list.append(d);
      }
      py::list kinds = seen[t.version]["kinds"];
      if (!kinds.contains(py::str(l.kind))) kinds.append(l.kind);
    }
  }
  return list;
}

std::string counters(const std::string& order) {
  for (const LoadedLibrary& l : loaded_libraries()) {
    if (!l.usable() || !l.counters) continue;
    const NativeCall call;  // a report asks another program for source lines
    return l.counters(order.c_str());
  }
  throw DeviceError("the device emulated:counting has not been loaded");
}

}  // namespace

void bind_call(py::module_& m) {
  m.def("counters", &counters, py::arg("order"));
  m.def("libraries", &libraries);
  m.def("add_library", &add_library, py::arg("path"));
  m.def("versions", &versions);
  m.def("entries", &entries);
  m.def("why_not", &why_not, py::arg("device"), py::arg("version"), py::arg("entry"), py::arg("attributes"));
  m.def(
      "demangle",
      [](const std::string& symbol) {
        int status = -1;
        const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status),
                                                          std::free);
        return text && status == 0 ? std::string(text.get()) : symbol;
      },
      py::arg("symbol"));
  m.def("needs", &needs, py::arg("device"), py::arg("version"), py::arg("entry"), py::arg("attributes"));
  m.def("call", &call, py::arg("device"), py::arg("version"), py::arg("entry"), py::arg("attributes"), py::arg("inputs"),
        py::arg("outputs") = py::none(), py::arg("guard") = false, py::arg("repeat") = 0, py::arg("keep") = false,
        py::arg("offset") = 0, py::arg("over") = std::map<std::string, std::string>());
}

}  // namespace warploom
