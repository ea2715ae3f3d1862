// selftest.h - kernels that test the emulated device itself. Not part of a version: built into libraries of their own (selftest_fast,
// selftest_checked), which tests/emulator/test_emulator.py opens through three C functions (selftest.cpp).
//
// WL_CASE(group, name) { ... } defines a case; it has `t`, throws when something is wrong, and for the group "broken" is expected to
// be stopped by the checks at the line that carries the comment "FAULT: name".
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "../../common/portable.cuh"

namespace warploom {
namespace selftest {

struct Case {
  const char* group;
  const char* name;
  void (*run)(struct Tester&);
};
std::vector<Case>& cases();
struct Registration {
  Registration(const char* group, const char* name, void (*run)(struct Tester&)) { cases().push_back(Case{group, name, run}); }
};

template <class T>
std::string text(const T& value) {
  if constexpr (std::is_convertible_v<T, std::string>)
    return std::string(value);
  else
    return std::to_string(value);
}

struct Tester {
  Device* device = nullptr;
  Context context;
  std::vector<void*> owned;

  template <class T>
  T* empty(size_t count, const char* name = "buffer") {
    void* p = device->allocate(static_cast<int64_t>(count * sizeof(T)), name);
    owned.push_back(p);
    return static_cast<T*>(p);
  }
  template <class T>
  T* upload(const std::vector<T>& values, const char* name = "buffer") {
    T* p = empty<T>(values.size(), name);
    device->copy_in(p, values.data(), static_cast<int64_t>(values.size() * sizeof(T)));
    return p;
  }
  template <class T>
  std::vector<T> download(const T* p, size_t count) {
    std::vector<T> values(count);
    device->copy_out(values.data(), p, static_cast<int64_t>(count * sizeof(T)));
    return values;
  }
  template <class T, class Expected>
  void equal(const T* device_values, size_t count, Expected expected, const std::string& what) {
    const std::vector<T> got = download(device_values, count);
    for (size_t i = 0; i < count; ++i) {
      const T wanted = static_cast<T>(expected(static_cast<int>(i)));
      if (!(got[i] == wanted))
        throw std::runtime_error(what + "[" + text(i) + "] is " + text(got[i]) + ", expected " + text(wanted));
    }
  }
  void require(bool condition, const std::string& what) {
    if (!condition) throw std::runtime_error(what);
  }
  // The call must throw, and its text must contain `part`.
  template <class F>
  void must_throw(const std::string& part, F f) {
    std::string said;
    try {
      f();
    } catch (const std::exception& e) {
      said = e.what();
      if (said.find(part) != std::string::npos) return;
      throw std::runtime_error("expected an error with \"" + part + "\", got: " + said);
    }
    throw std::runtime_error("expected an error with \"" + part + "\", nothing was thrown");
  }
};

#define WL_CASE(group, name)                                                  \
  static void case_##name(Tester& t);                                         \
  static const Registration registration_##name(#group, #name, &case_##name); \
  static void case_##name([[maybe_unused]] Tester& t)

}  // namespace selftest
}  // namespace warploom
