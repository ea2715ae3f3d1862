// common.h - small things every file of the host kernel set uses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "activations.h"
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

}  // namespace warploom::cpu
