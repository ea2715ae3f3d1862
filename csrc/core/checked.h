// checked.h - sizes that come from a user or from a file: 64-bit arithmetic that cannot wrap, and the bounds of what is accepted.
//
// Every size is bounded so that the kernels, which count with 32 bits inside one image, can add a few of them without a thought;
// products are bounded one by one. What leaves the bounds ends in a GraphError, before anything is allocated.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "csrc/core/errors.h"

namespace warploom {

constexpr int64_t kLargestSize = int64_t(1) << 28;         // of an axis, a window, a stride, a padding, a factor
constexpr int64_t kMostElements = (int64_t(1) << 31) - 1;  // of one sample's tensor, of one parameter
constexpr int64_t kMostBytes = int64_t(1) << 52;           // of one buffer, of all buffers together

// An integer that remembers whether it has left 64 bits.
class Checked {
 public:
  Checked(int64_t value) : value_(value) {}  // NOLINT: converts, so that a + b * c reads as it stands in the formula
  Checked operator+(const Checked& o) const { return made(o, __builtin_add_overflow(value_, o.value_, &out_)); }
  Checked operator-(const Checked& o) const { return made(o, __builtin_sub_overflow(value_, o.value_, &out_)); }
  Checked operator*(const Checked& o) const { return made(o, __builtin_mul_overflow(value_, o.value_, &out_)); }
  Checked operator/(const Checked& o) const { return made(o, o.value_ == 0 || !divided(o.value_)); }
  Checked& operator+=(const Checked& o) { return *this = *this + o; }
  Checked& operator*=(const Checked& o) { return *this = *this * o; }

  bool fits(int64_t least, int64_t most) const { return !over_ && value_ >= least && value_ <= most; }
  std::string text() const { return over_ ? "a number of more than 64 bits" : std::to_string(value_); }
  // The value, or GraphError("WHAT must be at least ..., not ..."). what: "its output height".
  int64_t between(int64_t least, int64_t most, const std::string& what) const {
    if (fits(least, most)) return value_;
    const bool low = !over_ && value_ < least;
    throw GraphError(what + " must be at " + (low ? "least " : "most ") + std::to_string(low ? least : most) + ", not " + text());
  }
  int64_t size(const std::string& what) const { return between(1, kLargestSize, what); }
  int64_t bytes(const std::string& what) const {
    if (fits(0, kMostBytes)) return value_;
    throw GraphError(what + " needs " + (over_ ? "more bytes than 64 bits count" : std::to_string(value_) + " bytes") +
                     ", and the most that is planned for is " + std::to_string(kMostBytes) +
                     ": use a smaller batch or smaller maps");
  }

 private:
  Checked(int64_t value, bool over) : value_(value), over_(over) {}
  bool divided(int64_t by) const {
    if (by == -1 && value_ == std::numeric_limits<int64_t>::min()) return false;
    out_ = value_ / by;
    return true;
  }
  Checked made(const Checked& o, bool over) const { return {over ? 0 : out_, over || over_ || o.over_}; }

  int64_t value_;
  mutable int64_t out_ = 0;  // of the last operation
  bool over_ = false;
};

// A size that a check has bounded, as the kernels' structs hold it.
inline int narrow(int64_t size) {
  if (size < std::numeric_limits<int>::min() || size > std::numeric_limits<int>::max())
    throw GraphError("the size " + std::to_string(size) + " does not fit into 32 bits");
  return static_cast<int>(size);
}

}  // namespace warploom
