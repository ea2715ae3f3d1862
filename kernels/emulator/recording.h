// recording.h - the emulated counterpart of a CUDA graph: work that is kept instead of done, and done again as often as one likes.
#pragma once

#include <functional>
#include <map>
#include <vector>

namespace warploom {
namespace emulator {

struct LaunchRequest;

class Recorder {
 public:
  void begin();  // throws DeviceError where one is being made already
  int end();
  void abandon() noexcept;
  void replay(int recording) const;  // throws what the work throws
  void forget(int recording) noexcept { recordings_.erase(recording); }
  // Keeps the work and returns true where a recording is being made on this thread.
  bool keep(std::function<void()> work);
  void refuse(const char* action) const;  // throws DeviceError while a recording is being made

 private:
  using Recording = std::vector<std::function<void()>>;
  std::map<int, Recording> recordings_;
  Recording open_;
  int last_ = 0;
};

// Called with every launch; true: it was kept, with a copy of its parameters.
bool keep_launch(const LaunchRequest& request);

}  // namespace emulator
}  // namespace warploom
