// interop.h - what a device library may export besides its table: how its memory is shared with other libraries in the process.
//
// Only a device whose memory others can own exports warploom_interop(); cuda does. The engine asks for it when an array comes from
// outside, so that nothing else knows of it.
#pragma once

#include <cstdint>

namespace warploom {

struct Interop {
  int (*device_of)(const void* data) = nullptr;  // the index of the device whose memory this is; -1: it is no device memory
  // Work put on `stream` (Context::stream) from now on starts after what `other` has been given so far. `other` is a stream as the
  // array protocols write it: 1 the legacy default stream, 2 the per-thread one, else a handle.
  void (*wait_for)(int device, void* stream, uintptr_t other) = nullptr;
};

}  // namespace warploom

// extern "C" const warploom::Interop* warploom_interop();
