// recording.h - a piece of work that a device keeps and does again at one call (a CUDA graph).
#pragma once

#include <memory>
#include <utility>

#include "kernels/device.h"

namespace warploom {

class Recording {
 public:
  Recording() = default;
  template <class Work>
  Recording(std::shared_ptr<Device> device, const Work& work) : device_(std::move(device)) {
    device_->record_begin();
    try {
      work();
    } catch (...) {
      device_->record_abandon();
      throw;
    }
    number_ = device_->record_end();
  }
  Recording(Recording&& o) noexcept { swap(o); }
  Recording& operator=(Recording&& o) noexcept {
    Recording moved(std::move(o));
    swap(moved);
    return *this;
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  ~Recording() {
    if (number_ >= 0) device_->forget(number_);
  }
  void replay() const { device_->replay(number_); }
  explicit operator bool() const { return number_ >= 0; }

 private:
  void swap(Recording& o) noexcept {
    std::swap(device_, o.device_);
    std::swap(number_, o.number_);
  }
  std::shared_ptr<Device> device_;
  int number_ = -1;
};

}  // namespace warploom
