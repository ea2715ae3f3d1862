// runtime_cuda.cu - the device interface on a CUDA GPU: memory, copies, one stream, time marks.
//
// One stream per device object, non-blocking with respect to the legacy default stream. Every call selects its device first, so
// that several can be used from one thread. Failures throw with the CUDA runtime's own words and what to do about them.
#include <cuda_runtime.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "device_fault.h"
#include "runtime.h"

#ifndef WARPLOOM_CUDA_ARCHITECTURES
#define WARPLOOM_CUDA_ARCHITECTURES "(not recorded)"
#endif

namespace warploom {
inline namespace runtime_helpers {

__global__ void probe_kernel() {}

void check(cudaError_t e, const std::string& what) {
  if (e == cudaSuccess) return;
  (void)cudaGetLastError();
  const std::string words = std::string(cudaGetErrorString(e)) + " (" + cudaGetErrorName(e) + ")";
  const char* blocking = std::getenv("CUDA_LAUNCH_BLOCKING");
  throw DeviceError(call_failure(what, e, words, blocking && *blocking && std::string(blocking) != "0"));
}

class CudaDevice final : public Device {
 public:
  explicit CudaDevice(int index) : index_(index) {
    check(cudaSetDevice(index), "cannot select GPU " + std::to_string(index));
    cudaDeviceProp p;
    check(cudaGetDeviceProperties(&p, index), "cannot read the properties of GPU " + std::to_string(index));
    info_.name = p.name;
    info_.compute_major = p.major;
    info_.compute_minor = p.minor;
    info_.multiprocessors = p.multiProcessorCount;
    info_.shared_bytes_per_block = static_cast<int64_t>(p.sharedMemPerBlock);
    info_.shared_bytes_optin = static_cast<int64_t>(p.sharedMemPerBlockOptin);
    info_.memory_bytes = static_cast<int64_t>(p.totalGlobalMem);
    cudaFuncAttributes attributes;
    const cudaError_t e = cudaFuncGetAttributes(&attributes, probe_kernel);
    if (e == cudaErrorNoKernelImageForDevice || e == cudaErrorInvalidDeviceFunction) {
      (void)cudaGetLastError();
      throw DeviceError(info_.name + " has compute capability " + std::to_string(p.major) + "." + std::to_string(p.minor) +
                        ", but this build holds kernels for " WARPLOOM_CUDA_ARCHITECTURES
                        " only; reinstall with -C cmake.define.CMAKE_CUDA_ARCHITECTURES=" +
                        std::to_string(p.major) + std::to_string(p.minor));
    }
    check(e, "cannot load the kernels on " + info_.name);
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cannot create a stream");
  }

  ~CudaDevice() override {
    if (cudaSetDevice(index_) != cudaSuccess) return;  // the driver may be shutting down with the process
    for (const auto& g : graphs_) cudaGraphExecDestroy(g.second);
    for (auto e : events_)
      if (e) cudaEventDestroy(e);
    cudaStreamDestroy(stream_);
  }

  const DeviceInfo& info() const override { return info_; }

  void* allocate(int64_t bytes, const std::string& what) override {
    select();
    void* data = nullptr;
    const cudaError_t e = cudaMalloc(&data, static_cast<size_t>(bytes > 0 ? bytes : 1));
    if (e == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      size_t free_bytes = 0, total = 0;
      (void)cudaMemGetInfo(&free_bytes, &total);
      throw OutOfMemoryError("out of memory on " + info_.name + ": " + what + " needs " + std::to_string(bytes >> 20) + " MiB, " +
                             std::to_string(free_bytes >> 20) + " MiB are free; use a smaller batch size");
    }
    check(e, "cannot allocate " + what);
    return data;
  }
  void release(void* data) noexcept override {
    if (cudaSetDevice(index_) == cudaSuccess) cudaFree(data);
  }
  void copy_in(void* dst, const void* host, int64_t bytes) override {
    select();
    check(cudaMemcpyAsync(dst, host, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream_), "copy to the GPU");
    check(cudaStreamSynchronize(stream_), "copy to the GPU");
  }
  void copy_out(void* host, const void* src, int64_t bytes) override {
    select();
    check(cudaMemcpyAsync(host, src, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream_), "copy from the GPU");
    check(cudaStreamSynchronize(stream_), "copy from the GPU");
  }
  void copy(void* dst, const void* src, int64_t bytes) override {
    select();
    check(cudaMemcpyAsync(dst, src, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream_), "copy on the GPU");
  }
  void fill(void* dst, int byte, int64_t bytes) override {
    select();
    check(cudaMemsetAsync(dst, byte, static_cast<size_t>(bytes), stream_), "fill on the GPU");
  }
  void synchronize() override {
    select();
    check(cudaStreamSynchronize(stream_), "a kernel failed on " + info_.name);
  }
  void* stream() override {
    select();
    return stream_;
  }
  void mark(int slot) override {
    select();
    auto& e = events_.at(static_cast<size_t>(slot));
    if (!e) check(cudaEventCreate(&e), "cannot create an event");
    check(cudaEventRecord(e, stream_), "cannot record an event");
  }
  double elapsed_ms(int from, int to) override {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, events_.at(static_cast<size_t>(from)), events_.at(static_cast<size_t>(to))),
          "cannot read events");
    return ms;
  }

  // A recording is a CUDA graph: one launch instead of one per kernel.
  bool records() const override { return true; }
  void record_begin() override {
    select();
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cannot record a CUDA graph");
  }
  int record_end() override {
    cudaGraph_t graph = nullptr;
    check(cudaStreamEndCapture(stream_, &graph), "cannot record a CUDA graph");
    cudaGraphExec_t executable = nullptr;
#if CUDART_VERSION >= 12000
    const cudaError_t e = cudaGraphInstantiate(&executable, graph, 0);
#else
    const cudaError_t e = cudaGraphInstantiateWithFlags(&executable, graph, 0);
#endif
    cudaGraphDestroy(graph);
    check(e, "cannot make a CUDA graph ready to run");
    graphs_[++last_graph_] = executable;
    check(cudaGraphUpload(executable, stream_), "cannot upload a CUDA graph");
    return last_graph_;
  }
  void record_abandon() noexcept override {
    cudaGraph_t graph = nullptr;
    if (cudaStreamEndCapture(stream_, &graph) == cudaSuccess && graph) cudaGraphDestroy(graph);
    (void)cudaGetLastError();
  }
  void replay(int recording) override {
    select();
    check(cudaGraphLaunch(graphs_.at(recording), stream_), "cannot launch a CUDA graph");
  }
  void forget(int recording) noexcept override {
    const auto found = graphs_.find(recording);
    if (found == graphs_.end()) return;
    if (cudaSetDevice(index_) == cudaSuccess) cudaGraphExecDestroy(found->second);  // a running one is kept until it ends
    graphs_.erase(found);
  }

 private:
  void select() { check(cudaSetDevice(index_), "cannot select GPU " + std::to_string(index_)); }
  int index_;
  DeviceInfo info_;
  cudaStream_t stream_ = nullptr;
  std::array<cudaEvent_t, 1024> events_{};
  std::map<int, cudaGraphExec_t> graphs_;
  int last_graph_ = 0;
};

}  // namespace runtime_helpers

const char* runtime_kind() { return "cuda"; }

int runtime_count(std::string* why) {
  int count = 0;
  const cudaError_t e = cudaGetDeviceCount(&count);
  if (e == cudaSuccess && count > 0) return count;
  (void)cudaGetLastError();
  if (why) {
    if (e == cudaErrorInsufficientDriver)
      *why = "the NVIDIA driver is missing or older than the CUDA runtime this build uses";
    else if (e == cudaErrorNoDevice || e == cudaSuccess)
      *why = "no NVIDIA GPU is visible (check nvidia-smi and CUDA_VISIBLE_DEVICES)";
    else
      *why = std::string("the CUDA runtime says: ") + cudaGetErrorString(e);
  }
  return 0;
}

Device* runtime_open(int index) { return new CudaDevice(index); }

}  // namespace warploom
