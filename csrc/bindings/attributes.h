// attributes.h - argument structs of ops.h from and to Python: visitors over the fields that each struct names.
#pragma once

#include <pybind11/pybind11.h>

#include <limits>
#include <set>
#include <string>
#include <type_traits>

#include "csrc/core/checked.h"
#include "csrc/core/names.h"
#include "kernels/ops.h"

namespace warploom {
namespace py = pybind11;

// Role of a tensor field, from its type.
template <class T>
constexpr const char* role_of() {
  using U = std::decay_t<T>;
  if (std::is_same_v<U, In>) return "in";
  if (std::is_same_v<U, Out>) return "out";
  return "inout";
}

struct AttributeReader {  // fills the attributes of a struct from a dict; done() rejects names the struct does not have
  explicit AttributeReader(const py::dict& d) : dict(d) {}
  const py::dict& dict;
  std::set<std::string> known;
  template <class T>
  void attr(const char* name, T& field) {
    const py::object value = find(name);
    if (value) read(name, value, field);
  }
  py::object find(const char* name) {  // null where the dict has none
    known.insert(name);
    return dict.contains(name) ? py::object(dict[name]) : py::object();
  }
  template <class T>
  __attribute__((noinline)) void read(const char* name, const py::object& value, T& field) {  // once per type, not per field
    if constexpr (std::is_enum_v<T>) {
      field = parse<T>(value.cast<std::string>());
    } else if constexpr (std::is_integral_v<T>) {
      field = integer<T>(name, value);
    } else {
      field = value.cast<T>();
    }
  }
  // Within what the kernels count with: sizes that they add with 32 bits, counts that they multiply by an element's bytes.
  template <class T>
  T integer(const char* name, const py::object& value) {
    const py::object whole = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    if (!whole) throw py::error_already_set();
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(whole.ptr(), &overflow);
    const std::string field = name;  // of these any number will do: they are no sizes
    const bool label = field == "ignore_index" || field == "seed" || field == "stream";
    const int64_t most = label ? std::numeric_limits<T>::max() : sizeof(T) == 4 ? kLargestSize : kMostBytes / 8;
    if (overflow || number > most || number < -most)
      throw GraphError(std::string(name) + " must be at most " + std::to_string(most) + ", not " +
                       py::str(whole).cast<std::string>());
    if (number < 0 && !label && negative.empty()) negative = name;
    return static_cast<T>(number);
  }
  std::string negative;  // the first size that is
  template <class B>
  void tensor(const char*, B&, DType, int64_t, bool) {}
  void done(const std::string& what) const {
    for (const auto& item : dict) {
      const std::string name = item.first.cast<std::string>();
      if (known.count(name)) continue;
      std::string list;
      for (const auto& k : known) list += (list.empty() ? "" : ", ") + k;
      throw py::type_error(what + " has no attribute '" + name + "'; it has " + list);
    }
  }
};

template <class Args>
Args read_attributes(const py::dict& attributes, const std::string& what, std::string* negative = nullptr) {
  Args args;
  AttributeReader reader(attributes);
  Args::visit(args, reader);
  reader.done(what);
  if (negative) *negative = reader.negative;
  return args;
}

}  // namespace warploom
