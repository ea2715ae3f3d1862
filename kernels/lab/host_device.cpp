// host_device.cpp - the device that programs ask about: properties, limits, versions, waiting.

#include "state.h"

using namespace warploom::lab;

namespace {

cudaError_t no_device(const Call& call, int device) {
  return call.fails(cudaErrorInvalidDevice,
                    "there is one emulated device, number 0; " + std::to_string(device) + " was asked for");
}

}  // namespace

cudaError_t cudaDeviceSynchronize(Site site) {
  const Call call("cudaDeviceSynchronize", site);
  all_done();
  return cudaPeekAtLastError() == cudaSuccess ? cudaSuccess : cudaPeekAtLastError();
}
cudaError_t cudaSetDevice(int device, Site site) {
  const Call call("cudaSetDevice", site);
  return device == 0 ? call.succeeds() : no_device(call, device);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaChooseDevice(int* device, const cudaDeviceProp*) {
  *device = 0;
  return cudaSuccess;
}

// Of compute capability 9.0, with the numbers of an H100.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device, Site site) {
  const Call call("cudaGetDeviceProperties", site);
  if (device != 0) return no_device(call, device);
  memset(static_cast<void*>(p), 0, sizeof(*p));
  snprintf(p->name, sizeof(p->name), "warploom emulated device");
  p->totalGlobalMem = static_cast<size_t>(warploom::emulator::physical_memory());
  p->sharedMemPerBlock = warploom::emulator::kStaticShared;
  p->sharedMemPerBlockOptin = warploom::emulator::kSharedPerBlock;
  p->sharedMemPerMultiprocessor = 228 * 1024;
  p->reservedSharedMemPerBlock = 1024;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->warpSize = 32;
  p->memPitch = 0x7fffffff;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 0x7fffffff;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->clockRate = 1755000;
  p->totalConstMem = 64 * 1024;
  p->major = 9;
  p->textureAlignment = 512;
  p->multiProcessorCount = 132;
  p->deviceOverlap = p->asyncEngineCount = p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = 1;
  p->managedMemory = p->concurrentManagedAccess = p->cooperativeLaunch = p->memoryPoolsSupported = 1;
  p->globalL1CacheSupported = p->localL1CacheSupported = p->streamPrioritiesSupported = p->computePreemptionSupported = 1;
  p->memoryClockRate = 2619000;
  p->memoryBusWidth = 5120;
  p->l2CacheSize = 50 << 20;
  p->maxThreadsPerMultiProcessor = 2048;
  p->maxBlocksPerMultiProcessor = 32;
  p->singleToDoublePrecisionPerfRatio = 2;
  return call.succeeds();
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device, Site site) {
  const Call call("cudaDeviceGetAttribute", site);
  if (device != 0) return no_device(call, device);
  cudaDeviceProp p;
  cudaGetDeviceProperties(&p, 0, site);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = p.maxThreadsPerBlock;
      break;
    case cudaDevAttrMaxBlockDimX:
      *value = p.maxThreadsDim[0];
      break;
    case cudaDevAttrMaxGridDimX:
      *value = p.maxGridSize[0];
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrMaxRegistersPerBlock:
      *value = p.regsPerBlock;
      break;
    case cudaDevAttrClockRate:
      *value = p.clockRate;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = p.multiProcessorCount;
      break;
    case cudaDevAttrIntegrated:
      *value = 0;
      break;
    case cudaDevAttrMemoryClockRate:
      *value = p.memoryClockRate;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = p.memoryBusWidth;
      break;
    case cudaDevAttrL2CacheSize:
      *value = p.l2CacheSize;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = 228 * 1024;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      break;
    default:
      *value = 1;
      break;  // it can
  }
  return call.succeeds();
}
cudaError_t cudaDeviceGetLimit(size_t* value, cudaLimit limit) {
  *value = limit == cudaLimitStackSize ? 1024 : limit == cudaLimitPrintfFifoSize ? 1 << 20 : 8 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) {
  *can = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaErrorInvalidDevice; }
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
