// warploom_module.h - behind a file whose kernels are called from Python (warploom.lab.load): its kernels with the kinds of their
// parameters, and a main() that carries out one call, described in a file (module.cpp).
#pragma once

#include <vector>

#include "cuda_runtime.h"

namespace warploom {
namespace lab {

// "f4", "i4", "u1", ...: a number as NumPy names it; "b2": bfloat16; "V12": other plain data of 12 bytes.
template <class T>
std::string number_kind() {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same<U, bool>::value) return "b1";
  if constexpr (std::is_floating_point<U>::value) return "f" + std::to_string(sizeof(U));
  if constexpr (std::is_integral<U>::value) return (std::is_signed<U>::value ? "i" : "u") + std::to_string(sizeof(U));
  return "V" + std::to_string(sizeof(U));
}
// A pointer: "*" and what it points to, with "c" behind the star where that is constant.
template <class P>
std::string parameter_kind() {
  if constexpr (std::is_pointer<P>::value) {
    using T = std::remove_pointer_t<P>;
    const std::string prefix = std::is_const<T>::value ? "*c" : "*";
    if constexpr (std::is_void<T>::value)
      return prefix + "V1";
    else
      return prefix + number_kind<T>();
  } else {
    return number_kind<P>();
  }
}

struct ModuleKernel {
  const char* name;
  const void* function;
  std::vector<std::string> kinds;
};
template <class... P>
ModuleKernel module_kernel(void (*kernel)(P...), const char* name) {
  register_kernel(registration(kernel, name));
  return {name, reinterpret_cast<const void*>(kernel), {parameter_kind<std::decay_t<P>>()...}};
}
int module_main(int count, char** words, const std::vector<ModuleKernel>& kernels);  // module.cpp

}  // namespace lab
}  // namespace warploom
