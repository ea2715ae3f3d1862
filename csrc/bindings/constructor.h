// constructor.h - a Python constructor that survives an allocation which fails.
//
// pybind11 notes the object that a py::init() has made after its handler of C++ exceptions is left: std::bad_alloc there ends the
// process. This one notes it inside.
//   class.def("__init__", constructor(+[](int size) { return std::make_unique<T>(size); }), is_constructor(), ...)
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

namespace warploom {

using is_constructor = pybind11::detail::is_new_style_constructor;

template <class T, class... Args>
auto constructor(std::unique_ptr<T> (*make)(Args...)) {
  return [make](pybind11::detail::value_and_holder& place, Args... args) {
    std::unique_ptr<T> made = make(std::forward<Args>(args)...);
    place.value_ptr() = made.get();
    try {
      place.type->init_instance(place.inst, &made);
    } catch (...) {
      place.value_ptr() = nullptr;  // else pybind11 frees it too
      throw;
    }
  };
}

}  // namespace warploom
