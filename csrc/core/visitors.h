// visitors.h - what visit() of an argument struct tells about its buffers, for those who do not care about attributes.
#pragma once

#include <type_traits>
#include <utility>

#include "kernels/device.h"

namespace warploom {

template <class Buffer>
constexpr Region::Role kRole = std::is_same_v<Buffer, In>    ? Region::read
                               : std::is_same_v<Buffer, Out> ? Region::write
                                                             : Region::read_write;

// found(name, buffer, role) for every buffer that is given.
template <class Found>
struct BufferVisitor {
  Found found;
  template <class T>
  void attr(const char*, T&) {}
  template <class B>
  void tensor(const char* name, B& buffer, DType, int64_t, bool) {
    if (buffer) found(name, buffer, kRole<std::decay_t<B>>);
  }
};
template <class Args, class Found>
void visit_buffers(Args& args, Found found) {
  BufferVisitor<Found> visitor{std::move(found)};
  Args::visit(args, visitor);
}

}  // namespace warploom
