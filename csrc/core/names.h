// names.h - the words Python and the reports use for the enums of ops.h.
#pragma once

#include <array>
#include <stdexcept>
#include <string>

#include "kernels/ops.h"

namespace warploom {

template <class Map>
std::string listed(const Map& map) {  // its keys, for messages
  std::string s;
  for (const auto& item : map) s += (s.empty() ? "" : ", ") + item.first;
  return s;
}

template <class E>
struct Names;  // list: the names in the enum's order; what: the word for messages
template <>
struct Names<Layout> {
  static constexpr const char* what = "layout";
  static constexpr std::array<const char*, 2> list = {"nchw", "nhwc"};
};
template <>
struct Names<WeightLayout> {
  static constexpr const char* what = "weight layout";
  static constexpr std::array<const char*, 3> list = {"oihw", "ohwi", "hwio"};
};
template <>
struct Names<Activation> {
  static constexpr const char* what = "activation";
#define WL_ITEM(name) #name,
  static constexpr std::array list = {WL_ACTIVATIONS(WL_ITEM)};
#undef WL_ITEM
};
template <>
struct Names<UpsampleMode> {
  static constexpr const char* what = "upsample mode";
  static constexpr std::array<const char*, 2> list = {"nearest", "bilinear"};
};
template <>
struct Names<DepthOrder> {
  static constexpr const char* what = "depth-to-space order";
  static constexpr std::array<const char*, 3> list = {"dcr", "crd", "phases"};
};
template <>
struct Names<LossKind> {
  static constexpr const char* what = "loss kind";
  static constexpr std::array<const char*, 2> list = {"l1", "bce_with_logits"};
};
template <>
struct Names<Precision> {
  static constexpr const char* what = "precision";
  static constexpr std::array<const char*, 5> list = {"fp32", "fp32-exact", "tf32", "bf16", "fp16"};
};
template <>
struct Names<DType> {
  static constexpr const char* what = "dtype";
  static constexpr std::array<const char*, 6> list = {"f32", "f64", "u8", "i32", "bf16", "f16"};
};

template <class E>
const char* name_of(E e) {
  return Names<E>::list.at(static_cast<size_t>(e));
}

template <class E>
E parse(const std::string& text) {
  std::string known;
  for (size_t i = 0; i < Names<E>::list.size(); i++) {
    if (text == Names<E>::list[i]) return static_cast<E>(i);
    known += (i ? ", " : "") + std::string(Names<E>::list[i]);
  }
  throw std::invalid_argument(std::string("unknown ") + Names<E>::what + " '" + text + "'; expected one of " + known);
}

}  // namespace warploom
