// device_fault.h - what a failed call of the CUDA runtime means, in words. Plain C++, so that it is tested without a GPU.
//
// A fault in a kernel (an illegal address, a trap) is told late, by whichever call comes next, and every later call of the process fails
// the same way. So the error of a launch names its own kernel only where launches block; elsewhere it says that it may be another's.
#pragma once

#include <string>

namespace warploom {

// Errors after which a process can no longer use the GPU, by number (cudaError_t; tests/kernels/test_device_fault.py compares): an
// uncorrectable ECC or NVLink error, an illegal address, a timeout, an assert, a hardware stack error, an illegal instruction, a
// misaligned address, an invalid address space or program counter, a launch failure, a leak of tensor memory, a contained error.
inline bool context_is_lost(int error) {
  for (int lost : {214, 220, 226, 700, 702, 710, 714, 715, 716, 717, 718, 719, 721})
    if (error == lost) return true;
  return false;
}

inline const char* blocking_advice() {
  return "to learn which kernel it was, run again with CUDA_LAUNCH_BLOCKING=1 WARPLOOM_RECORD=0";
}
constexpr const char* kProcessIsLost = "this process can no longer use the GPU; start a new one";

// Of a launch of `kernel` that returned `error`, which the runtime calls `words`. blocking: the launch waited for the kernel's end.
inline std::string launch_failure(const std::string& kernel, int error, const std::string& words, bool blocking) {
  if (!context_is_lost(error)) return kernel + ": launch failed: " + words;
  if (blocking) return kernel + ": failed on the GPU: " + words + "; " + kProcessIsLost;
  return "a kernel launched before " + kernel + " failed on the GPU: " + words + " (found at this launch, not made by it); " +
         kProcessIsLost + "; " + blocking_advice();
}

// Of any other call, described by `what`.
inline std::string call_failure(const std::string& what, int error, const std::string& words, bool blocking) {
  std::string text = what + ": " + words;
  if (!context_is_lost(error)) return text;
  if (!blocking) text += " (of a kernel launched before, not of this call)";
  text += std::string("; ") + kProcessIsLost;
  return blocking ? text : text + "; " + blocking_advice();
}

}  // namespace warploom
