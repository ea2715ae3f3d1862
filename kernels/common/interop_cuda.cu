// interop_cuda.cu - memory of other libraries (PyTorch, CuPy, PyCUDA) on a CUDA GPU: whose it is, and when it may be read.
#include <cuda_runtime.h>

#include "../device.h"
#include "../interop.h"
#include "device_fault.h"

namespace warploom {
inline namespace interop_helpers {

void check(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  (void)cudaGetLastError();
  throw DeviceError(call_failure(what, e, std::string(cudaGetErrorString(e)) + " (" + cudaGetErrorName(e) + ")", false));
}

int device_of(const void* data) {
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
    (void)cudaGetLastError();
    return -1;
  }
  const bool on_device = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  return on_device ? attributes.device : -1;
}

void wait_for(int device, void* stream, uintptr_t other) {
  check(cudaSetDevice(device), "cannot select the GPU of an array");
  cudaStream_t source = reinterpret_cast<cudaStream_t>(other);
  if (other == 1) source = cudaStreamLegacy;
  if (other == 2) source = cudaStreamPerThread;
  cudaEvent_t done;
  check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "cannot create an event");
  cudaError_t e = cudaEventRecord(done, source);
  if (e == cudaSuccess) e = cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), done, 0);
  cudaEventDestroy(done);  // the wait goes on without it
  check(e, "cannot wait for the stream that an array names");
}

}  // namespace interop_helpers
}  // namespace warploom

extern "C" WL_EXPORT const warploom::Interop* warploom_interop() {
  static const warploom::Interop interop{warploom::device_of, warploom::wait_for};
  return &interop;
}
