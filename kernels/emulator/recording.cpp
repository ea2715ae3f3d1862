// recording.cpp - see recording.h. As on a GPU, a recording belongs to the thread that makes it: launches of others run as ever.
#include "recording.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "../device.h"
#include "cuda.h"

namespace warploom {
namespace emulator {
namespace {

thread_local Recorder* recording_here = nullptr;

struct alignas(64) Line {
  unsigned char bytes[64];
};

}  // namespace

void Recorder::begin() {
  if (recording_here) throw DeviceError("a recording is being made already; end it first");
  if (std::getenv("WARPLOOM_EMULATOR_RECORD_FAILS")) throw DeviceError("this device refuses to record");  // for the tests
  open_.clear();
  recording_here = this;
}

int Recorder::end() {
  if (recording_here != this) throw DeviceError("no recording is being made");
  recording_here = nullptr;
  recordings_[++last_] = std::move(open_);
  open_.clear();
  return last_;
}

void Recorder::abandon() noexcept {
  if (recording_here == this) recording_here = nullptr;
  open_.clear();
}

void Recorder::replay(int recording) const {
  const auto found = recordings_.find(recording);
  if (found == recordings_.end()) throw DeviceError("there is no recording " + std::to_string(recording));
  for (const auto& work : found->second) work();
}

bool Recorder::keep(std::function<void()> work) {
  if (recording_here != this) return false;
  open_.push_back(std::move(work));
  return true;
}

void Recorder::refuse(const char* action) const {
  if (recording_here == this) throw DeviceError(std::string(action) + " is not possible while a recording is being made");
}

bool keep_launch(const LaunchRequest& request) {
  if (!recording_here) return false;
  auto parameters = std::make_shared<std::vector<Line>>((request.parameter_bytes + sizeof(Line) - 1) / sizeof(Line));
  memcpy(parameters->data(), request.parameters, request.parameter_bytes);
  LaunchRequest kept = request;
  kept.parameters = parameters->data();
  return recording_here->keep([kept, parameters] { run(kept); });
}

}  // namespace emulator
}  // namespace warploom
