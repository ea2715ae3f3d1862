// attributes.h - the attributes of a node: integers, floats, words and lists of integers under names.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "csrc/core/checked.h"

namespace warploom {

using Ints = std::vector<int64_t>;

class Attributes {
 public:
  using Value = std::variant<int64_t, double, std::string, Ints>;
  std::map<std::string, Value> values;

  bool has(const std::string& name) const { return values.count(name) > 0; }
  int64_t integer(const std::string& name, int64_t fallback) const {
    return has(name) ? get<int64_t>(name, "an integer") : fallback;
  }
  double number(const std::string& name, double fallback) const {
    if (!has(name)) return fallback;
    if (const auto* i = std::get_if<int64_t>(&values.at(name))) return static_cast<double>(*i);
    return get<double>(name, "a number");
  }
  std::string word(const std::string& name, const std::string& fallback) const {
    return has(name) ? get<std::string>(name, "a word") : fallback;
  }
  // A list of sizes, each from `least` to kLargestSize; throws GraphError naming the attribute.
  Ints sizes(const std::string& name, size_t length, int64_t fallback, int64_t least = 1) const {
    const Ints v = list(name, length, fallback);
    for (const int64_t size : v) Checked(size).between(least, kLargestSize, name);
    return v;
  }
  int64_t size(const std::string& name, int64_t fallback, int64_t least = 1) const {
    return Checked(integer(name, fallback)).between(least, kLargestSize, name);
  }
  Ints list(const std::string& name, size_t length, int64_t fallback) const {
    if (!has(name)) return Ints(length, fallback);
    const Ints& v = get<Ints>(name, "a list of integers");
    if (v.size() != length) throw GraphError("attribute '" + name + "' must hold " + std::to_string(length) + " integers");
    return v;
  }

 private:
  template <class T>
  const T& get(const std::string& name, const char* expected) const {
    const T* v = std::get_if<T>(&values.at(name));
    if (!v) throw GraphError("attribute '" + name + "' must be " + expected);
    return *v;
  }
};

}  // namespace warploom
