// host_api.h - the CUDA runtime API as far as the lab has it. Each function knows from where it was called (WL_SITE), so that a mistake is
// reported at the program's line. Streams and events are in order: work is done when the call returns, and what a real device might not
// have done yet is remembered (host_memory.cpp) to find reads that come too early.
#pragma once

#define WL_CUDA_ERRORS(X)                                                                                     \
  X(cudaSuccess, 0, "no error")                                                                               \
  X(cudaErrorInvalidValue, 1, "invalid argument")                                                             \
  X(cudaErrorMemoryAllocation, 2, "out of memory")                                                            \
  X(cudaErrorInitializationError, 3, "initialization error")                                                  \
  X(cudaErrorCudartUnloading, 4, "driver shutting down")                                                      \
  X(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                                       \
  X(cudaErrorInvalidPitchValue, 12, "invalid pitch argument")                                                 \
  X(cudaErrorInvalidSymbol, 13, "invalid device symbol")                                                      \
  X(cudaErrorInvalidDevicePointer, 17, "invalid device pointer")                                              \
  X(cudaErrorInvalidMemcpyDirection, 21, "invalid copy direction for memcpy")                                 \
  X(cudaErrorInsufficientDriver, 35, "CUDA driver version is insufficient for CUDA runtime version")          \
  X(cudaErrorInvalidDeviceFunction, 98, "invalid device function")                                            \
  X(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")                                             \
  X(cudaErrorInvalidDevice, 101, "invalid device ordinal")                                                    \
  X(cudaErrorInvalidResourceHandle, 400, "invalid resource handle")                                           \
  X(cudaErrorNotReady, 600, "device not ready")                                                               \
  X(cudaErrorIllegalAddress, 700, "an illegal memory access was encountered")                                 \
  X(cudaErrorLaunchOutOfResources, 701, "too many resources requested for launch")                            \
  X(cudaErrorLaunchTimeout, 702, "the launch timed out and was terminated")                                   \
  X(cudaErrorPeerAccessAlreadyEnabled, 704, "peer access is already enabled")                                 \
  X(cudaErrorPeerAccessNotEnabled, 705, "peer access has not been enabled")                                   \
  X(cudaErrorAssert, 710, "device-side assert triggered")                                                     \
  X(cudaErrorHostMemoryAlreadyRegistered, 712, "part or all of the requested memory range is already mapped") \
  X(cudaErrorMisalignedAddress, 716, "misaligned address")                                                    \
  X(cudaErrorLaunchFailure, 719, "unspecified launch failure")                                                \
  X(cudaErrorCooperativeLaunchTooLarge, 720, "too many blocks in cooperative launch")                         \
  X(cudaErrorNotSupported, 801, "operation not supported")                                                    \
  X(cudaErrorUnknown, 999, "unknown error")
enum cudaError {
#define WL_ERROR(name, number, text) name = number,
  WL_CUDA_ERRORS(WL_ERROR)
#undef WL_ERROR
};
typedef enum cudaError cudaError_t;

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
  cudaFuncAttributeNonPortableClusterSizeAllowed = 13
};
enum cudaFuncCache { cudaFuncCachePreferNone, cudaFuncCachePreferShared, cudaFuncCachePreferL1, cudaFuncCachePreferEqual };
enum cudaSharedMemConfig { cudaSharedMemBankSizeDefault, cudaSharedMemBankSizeFourByte, cudaSharedMemBankSizeEightByte };
enum cudaSharedCarveout {
  cudaSharedmemCarveoutDefault = -1,
  cudaSharedmemCarveoutMaxShared = 100,
  cudaSharedmemCarveoutMaxL1 = 0
};
enum cudaLimit {
  cudaLimitStackSize,
  cudaLimitPrintfFifoSize,
  cudaLimitMallocHeapSize,
  cudaLimitDevRuntimeSyncDepth,
  cudaLimitDevRuntimePendingLaunchCount,
  cudaLimitMaxL2FetchGranularity,
  cudaLimitPersistingL2CacheSize
};
enum cudaComputeMode {
  cudaComputeModeDefault,
  cudaComputeModeExclusive,
  cudaComputeModeProhibited,
  cudaComputeModeExclusiveProcess
};
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice, cudaMemoryTypeManaged };
enum cudaMemoryAdvise {
  cudaMemAdviseSetReadMostly = 1,
  cudaMemAdviseUnsetReadMostly,
  cudaMemAdviseSetPreferredLocation,
  cudaMemAdviseUnsetPreferredLocation,
  cudaMemAdviseSetAccessedBy,
  cudaMemAdviseUnsetAccessedBy
};
enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxBlockDimX = 2,
  cudaDevAttrMaxGridDimX = 5,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMaxRegistersPerBlock = 12,
  cudaDevAttrClockRate = 13,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrIntegrated = 18,
  cudaDevAttrMemoryClockRate = 36,
  cudaDevAttrGlobalMemoryBusWidth = 37,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrUnifiedAddressing = 41,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrManagedMemory = 83,
  cudaDevAttrConcurrentManagedAccess = 89,
  cudaDevAttrCooperativeLaunch = 95,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrMemoryPoolsSupported = 115
};
constexpr unsigned cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2, cudaHostAllocWriteCombined = 4;
constexpr unsigned cudaHostRegisterDefault = 0, cudaHostRegisterPortable = 1, cudaHostRegisterMapped = 2;
constexpr unsigned cudaMemAttachGlobal = 1, cudaMemAttachHost = 2, cudaMemAttachSingle = 4;
constexpr unsigned cudaStreamDefault = 0, cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2, cudaEventInterprocess = 4;
constexpr unsigned cudaDeviceScheduleAuto = 0, cudaDeviceScheduleSpin = 1, cudaDeviceScheduleYield = 2,
                   cudaDeviceScheduleBlockingSync = 4, cudaDeviceMapHost = 8;
constexpr int cudaCpuDeviceId = -1, cudaInvalidDeviceId = -2;
constexpr unsigned cudaOccupancyDefault = 0;

struct CUstream_st;
typedef CUstream_st* cudaStream_t;
#define cudaStreamLegacy (reinterpret_cast<cudaStream_t>(1))
#define cudaStreamPerThread (reinterpret_cast<cudaStream_t>(2))
struct CUevent_st;
typedef CUevent_st* cudaEvent_t;
typedef void (*cudaHostFn_t)(void*);
typedef void (*cudaStreamCallback_t)(cudaStream_t, cudaError_t, void*);

struct cudaUUID_t {
  char bytes[16];
};
struct cudaDeviceProp {
  char name[256];
  cudaUUID_t uuid;
  size_t totalGlobalMem, sharedMemPerBlock;
  int regsPerBlock, warpSize;
  size_t memPitch;
  int maxThreadsPerBlock, maxThreadsDim[3], maxGridSize[3];
  int clockRate;
  size_t totalConstMem;
  int major, minor;
  size_t textureAlignment, texturePitchAlignment;
  int deviceOverlap, multiProcessorCount, kernelExecTimeoutEnabled, integrated, canMapHostMemory, computeMode;
  int maxTexture1D, maxTexture2D[2], maxTexture3D[3], maxTexture1DLayered[2], maxTexture2DLayered[3];
  size_t surfaceAlignment;
  int concurrentKernels, ECCEnabled, pciBusID, pciDeviceID, pciDomainID, tccDriver, asyncEngineCount, unifiedAddressing;
  int memoryClockRate, memoryBusWidth, l2CacheSize, persistingL2CacheMaxSize, maxThreadsPerMultiProcessor;
  int streamPrioritiesSupported, globalL1CacheSupported, localL1CacheSupported;
  size_t sharedMemPerMultiprocessor;
  int regsPerMultiprocessor, managedMemory, isMultiGpuBoard, multiGpuBoardGroupID, hostNativeAtomicSupported;
  int singleToDoublePrecisionPerfRatio, pageableMemoryAccess, concurrentManagedAccess, computePreemptionSupported;
  int canUseHostPointerForRegisteredMem, cooperativeLaunch, cooperativeMultiDeviceLaunch;
  size_t sharedMemPerBlockOptin;
  int pageableMemoryAccessUsesHostPageTables, directManagedMemAccessFromHost, maxBlocksPerMultiProcessor,
      accessPolicyMaxWindowSize;
  size_t reservedSharedMemPerBlock;
  int hostRegisterSupported, memoryPoolsSupported, clusterLaunch, unifiedFunctionPointers;
};
struct cudaFuncAttributes {
  size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
  int maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion, cacheModeCA, maxDynamicSharedSizeBytes, preferredShmemCarveout;
};
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void *devicePointer, *hostPointer;
};
struct cudaMemLocation {
  int type, id;
};

const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

namespace warploom {
namespace lab {
void discarded();  // the rewriter puts it before a call whose result the program does not look at
cudaError_t allocate(void** to, size_t bytes, const char* call, emulator::Site site);
cudaError_t allocate_managed(void** to, size_t bytes, unsigned flags, emulator::Site site);
cudaError_t allocate_pinned(void** to, size_t bytes, const char* call, emulator::Site site);
cudaError_t allocate_pitched(void** to, size_t* pitch, size_t width, size_t height, emulator::Site site);
cudaError_t copy_to_symbol(const void* symbol, size_t size, const void* from, size_t bytes, size_t offset, cudaMemcpyKind kind,
                           cudaStream_t stream, bool async, emulator::Site site);
cudaError_t copy_from_symbol(void* to, const void* symbol, size_t size, size_t bytes, size_t offset, cudaMemcpyKind kind,
                             cudaStream_t stream, bool async, emulator::Site site);
cudaError_t set_attribute(const void* function, cudaFuncAttribute attribute, int value, emulator::Site site);
cudaError_t occupancy(int* blocks, int threads, size_t shared_bytes);
}  // namespace lab
}  // namespace warploom

template <class T>
cudaError_t cudaMalloc(T** to, size_t bytes, WL_SITE) {
  return ::warploom::lab::allocate(reinterpret_cast<void**>(to), bytes, "cudaMalloc", site);
}
template <class T>
cudaError_t cudaMallocAsync(T** to, size_t bytes, cudaStream_t, WL_SITE) {
  return ::warploom::lab::allocate(reinterpret_cast<void**>(to), bytes, "cudaMallocAsync", site);
}
template <class T>
cudaError_t cudaMallocManaged(T** to, size_t bytes, unsigned flags = cudaMemAttachGlobal, WL_SITE) {
  return ::warploom::lab::allocate_managed(reinterpret_cast<void**>(to), bytes, flags, site);
}
template <class T>
cudaError_t cudaMallocHost(T** to, size_t bytes, unsigned = 0, WL_SITE) {
  return ::warploom::lab::allocate_pinned(reinterpret_cast<void**>(to), bytes, "cudaMallocHost", site);
}
template <class T>
cudaError_t cudaHostAlloc(T** to, size_t bytes, unsigned, WL_SITE) {
  return ::warploom::lab::allocate_pinned(reinterpret_cast<void**>(to), bytes, "cudaHostAlloc", site);
}
template <class T>
cudaError_t cudaMallocPitch(T** to, size_t* pitch, size_t width, size_t height, WL_SITE) {
  return ::warploom::lab::allocate_pitched(reinterpret_cast<void**>(to), pitch, width, height, site);
}
cudaError_t cudaFree(void* data, WL_SITE);
inline cudaError_t cudaFreeAsync(void* data, cudaStream_t, WL_SITE) { return cudaFree(data, site); }
cudaError_t cudaFreeHost(void* data, WL_SITE);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, WL_SITE);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream = nullptr,
                            WL_SITE);
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind, WL_SITE);
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream = nullptr, WL_SITE);
cudaError_t cudaMemset(void* to, int byte, size_t bytes, WL_SITE);
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream = nullptr, WL_SITE);
cudaError_t cudaMemset2D(void* to, size_t pitch, int byte, size_t width, size_t height, WL_SITE);
template <class T>
cudaError_t cudaMemcpyToSymbol(T& symbol, const void* from, size_t bytes, size_t offset = 0,
                               cudaMemcpyKind kind = cudaMemcpyHostToDevice, WL_SITE) {
  return ::warploom::lab::copy_to_symbol(&symbol, sizeof(symbol), from, bytes, offset, kind, nullptr, false, site);
}
template <class T>
cudaError_t cudaMemcpyToSymbolAsync(T& symbol, const void* from, size_t bytes, size_t offset = 0,
                                    cudaMemcpyKind kind = cudaMemcpyHostToDevice, cudaStream_t stream = nullptr, WL_SITE) {
  return ::warploom::lab::copy_to_symbol(&symbol, sizeof(symbol), from, bytes, offset, kind, stream, true, site);
}
template <class T>
cudaError_t cudaMemcpyFromSymbol(void* to, const T& symbol, size_t bytes, size_t offset = 0,
                                 cudaMemcpyKind kind = cudaMemcpyDeviceToHost, WL_SITE) {
  return ::warploom::lab::copy_from_symbol(to, &symbol, sizeof(symbol), bytes, offset, kind, nullptr, false, site);
}
template <class T>
cudaError_t cudaMemcpyFromSymbolAsync(void* to, const T& symbol, size_t bytes, size_t offset = 0,
                                      cudaMemcpyKind kind = cudaMemcpyDeviceToHost, cudaStream_t stream = nullptr, WL_SITE) {
  return ::warploom::lab::copy_from_symbol(to, &symbol, sizeof(symbol), bytes, offset, kind, stream, true, site);
}
template <class T>
cudaError_t cudaGetSymbolAddress(void** to, const T& symbol) {
  *to = const_cast<void*>(static_cast<const void*>(&symbol));
  return cudaSuccess;
}
template <class T>
cudaError_t cudaGetSymbolSize(size_t* size, const T&) {
  *size = sizeof(T);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* left, size_t* total);
cudaError_t cudaMemPrefetchAsync(const void* data, size_t bytes, int device, cudaStream_t stream = nullptr, WL_SITE);
cudaError_t cudaMemPrefetchAsync(const void* data, size_t bytes, cudaMemLocation location, unsigned flags,
                                 cudaStream_t stream = nullptr, WL_SITE);
inline cudaError_t cudaMemAdvise(const void*, size_t, cudaMemoryAdvise, int) { return cudaSuccess; }
template <class T>
cudaError_t cudaHostGetDevicePointer(T** to, void* host, unsigned) {
  *to = static_cast<T*>(host);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* data, size_t bytes, unsigned flags, WL_SITE);
cudaError_t cudaHostUnregister(void* data, WL_SITE);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data);

cudaError_t cudaDeviceSynchronize(WL_SITE);
inline cudaError_t cudaThreadSynchronize(WL_SITE) { return cudaDeviceSynchronize(site); }
cudaError_t cudaDeviceReset(WL_SITE);
inline cudaError_t cudaThreadExit(WL_SITE) { return cudaDeviceReset(site); }
cudaError_t cudaSetDevice(int device, WL_SITE);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device, WL_SITE);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device, WL_SITE);
cudaError_t cudaChooseDevice(int* device, const cudaDeviceProp* properties);
inline cudaError_t cudaSetDeviceFlags(unsigned) { return cudaSuccess; }
inline cudaError_t cudaDeviceSetLimit(cudaLimit, size_t) { return cudaSuccess; }
cudaError_t cudaDeviceGetLimit(size_t* value, cudaLimit limit);
inline cudaError_t cudaDeviceSetCacheConfig(cudaFuncCache) { return cudaSuccess; }
inline cudaError_t cudaDeviceSetSharedMemConfig(cudaSharedMemConfig) { return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer);
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest);
inline cudaError_t cudaProfilerStart() { return cudaSuccess; }
inline cudaError_t cudaProfilerStop() { return cudaSuccess; }

template <class F>
cudaError_t cudaFuncSetAttribute(F* function, cudaFuncAttribute attribute, int value, WL_SITE) {
  return ::warploom::lab::set_attribute(reinterpret_cast<const void*>(function), attribute, value, site);
}
template <class F>
cudaError_t cudaFuncSetCacheConfig(F*, cudaFuncCache) {
  return cudaSuccess;
}
template <class F>
cudaError_t cudaFuncSetSharedMemConfig(F*, cudaSharedMemConfig) {
  return cudaSuccess;
}
template <class F>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, F*) {
  *attributes = cudaFuncAttributes{0, 0, 0, 1024, 32, 90, 90, 0, 48 * 1024, -1};
  return cudaSuccess;
}
template <class F>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, F, int threads, size_t shared_bytes) {
  return ::warploom::lab::occupancy(blocks, threads, shared_bytes);
}
template <class F>
cudaError_t cudaOccupancyMaxPotentialBlockSize(int* grid, int* block, F, size_t = 0, int limit = 0) {
  *block = limit > 0 && limit < 1024 ? limit : 1024;
  *grid = 132 * 2048 / *block;
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream, WL_SITE);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags, WL_SITE);
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority, WL_SITE);
cudaError_t cudaStreamDestroy(cudaStream_t stream, WL_SITE);
cudaError_t cudaStreamSynchronize(cudaStream_t stream, WL_SITE);
cudaError_t cudaStreamQuery(cudaStream_t stream, WL_SITE);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0, WL_SITE);
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* data, unsigned flags, WL_SITE);
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data, WL_SITE);
cudaError_t cudaEventCreate(cudaEvent_t* event, WL_SITE);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags, WL_SITE);
cudaError_t cudaEventDestroy(cudaEvent_t event, WL_SITE);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr, WL_SITE);
cudaError_t cudaEventSynchronize(cudaEvent_t event, WL_SITE);
cudaError_t cudaEventQuery(cudaEvent_t event, WL_SITE);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to, WL_SITE);
