// common.h - small things every file of the host kernel set uses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/device.h"
#include "threads.h"
#include "vec.h"

namespace warploom::cpu {

// Channels travel in blocks of 16 whatever the vector width: packed operands look the same in every build.
constexpr int kBlock = 16;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Cuts pieces off a buffer, each on a cache line. With no memory behind it, it only counts: the same code that lays out a
// workspace also says how many bytes it needs.
class Carver {
 public:
  Carver() = default;
  explicit Carver(const InOut& buffer) : base_(buffer.ptr<char>()) {}
  template <class T = float>
  T* take(int64_t count) {
    T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += round_up(count * static_cast<int64_t>(sizeof(T)), 128);
    return p;
  }
  int64_t used() const { return used_; }

 private:
  char* base_ = nullptr;
  int64_t used_ = 0;
};

// Activation of a vector. `kind` is the same for a whole call, so the branch predicts.
inline vf sigmoid(vf x) {
  vf y{};
  for (int i = 0; i < kWidth; ++i) y[i] = 1.0f / (1.0f + __builtin_expf(-x[i]));
  return y;
}
WL_INLINE vf activate(vf x, Activation kind, float slope) {
  switch (kind) {
    case Activation::relu:
      return relu(x);
    case Activation::leaky_relu:
      return x < 0.0f ? x * slope : x;
    case Activation::sigmoid:
      return sigmoid(x);
    default:
      return x;
  }
}
// dy times the activation's derivative at its output y.
WL_INLINE vf activate_backward(vf dy, vf y, Activation kind, float slope) {
  switch (kind) {
    case Activation::relu:
      return y <= 0.0f ? vf{} : dy;
    case Activation::leaky_relu:
      return y > 0.0f ? dy : dy * slope;
    case Activation::sigmoid:
      return dy * y * (1.0f - y);
    default:
      return dy;
  }
}

}  // namespace warploom::cpu
