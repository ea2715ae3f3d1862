// device_memory.h - owning handle of one device allocation.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "kernels/device.h"

namespace warploom {

class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(std::shared_ptr<Device> device, int64_t bytes, const std::string& what)
      : device_(std::move(device)), bytes_(bytes) {
    data_ = device_->allocate(bytes, what);
  }
  DeviceMemory(DeviceMemory&& o) noexcept { swap(o); }
  DeviceMemory& operator=(DeviceMemory&& o) noexcept {
    DeviceMemory moved(std::move(o));
    swap(moved);
    return *this;
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() {
    if (data_) device_->release(data_);
  }
  char* data() const { return static_cast<char*>(data_); }
  int64_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void swap(DeviceMemory& o) noexcept {
    std::swap(device_, o.device_);
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
  }
  std::shared_ptr<Device> device_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace warploom
