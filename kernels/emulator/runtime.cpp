// runtime.cpp - the device interface (kernels/device.h) of the emulated device. Work is done when a call returns: no stream is
// needed.
//
// Compiled without the instruction-set flags of the kernels, so that runtime_count() can refuse a CPU that lacks them.
#include "../common/runtime.h"

#include <array>
#include <chrono>
#include <cstdio>

#include "engine.h"
#include "memory.h"
#include "recording.h"

namespace warploom {
namespace {

std::string cpu_name() {
  std::string name;
  if (FILE* f = fopen("/proc/cpuinfo", "r")) {
    char line[256];
    while (name.empty() && fgets(line, sizeof(line), f)) {
      const std::string text = line;
      const size_t colon = text.find(": ");
      if (text.compare(0, 10, "model name") == 0 && colon != std::string::npos) name = text.substr(colon + 2);
    }
    fclose(f);
  }
  while (!name.empty() && (name.back() == '\n' || name.back() == ' ')) name.pop_back();
  return name.empty() ? "CPU" : name;
}

class EmulatedDevice final : public Device {
 public:
  EmulatedDevice() {
    info_.name = emulator::kDescription + cpu_name();
    info_.compute_major = 9;
    info_.compute_minor = 0;
    info_.multiprocessors = emulator::worker_count();
    info_.shared_bytes_per_block = emulator::kStaticShared;
    info_.shared_bytes_optin = emulator::kSharedPerBlock;
    info_.memory_bytes = emulator::physical_memory();
  }
  const DeviceInfo& info() const override { return info_; }
  void* allocate(int64_t bytes, const std::string& what) override { return emulator::memory_allocate(bytes, what); }
  void release(void* data) noexcept override { emulator::memory_release(data); }
  void copy_in(void* dst, const void* host, int64_t bytes) override {
    if (bytes <= 0) return;
    recorder_.refuse("copying to the device");
    emulator::memory_touch(dst, bytes, true, "copy to the device");
    memcpy(dst, host, static_cast<size_t>(bytes));
  }
  void copy_out(void* host, const void* src, int64_t bytes) override {
    if (bytes <= 0) return;
    recorder_.refuse("copying from the device");
    emulator::memory_touch(src, bytes, false, "copy from the device");
    memcpy(host, src, static_cast<size_t>(bytes));
  }
  void copy(void* dst, const void* src, int64_t bytes) override {
    if (bytes <= 0 || recorder_.keep([=] { copy(dst, src, bytes); })) return;
    emulator::memory_touch(src, bytes, false, "copy on the device");
    emulator::memory_touch(dst, bytes, true, "copy on the device");
    emulator::memory_copied(dst, src, bytes);
    memmove(dst, src, static_cast<size_t>(bytes));
  }
  void fill(void* dst, int byte, int64_t bytes) override {
    if (bytes <= 0 || recorder_.keep([=] { fill(dst, byte, bytes); })) return;
    emulator::memory_touch(dst, bytes, true, "fill on the device");
    memset(dst, byte, static_cast<size_t>(bytes));
  }
  void synchronize() override { recorder_.refuse("waiting for the device"); }
  void* stream() override { return this; }
  void mark(int slot) override { marks_.at(static_cast<size_t>(slot)) = std::chrono::steady_clock::now(); }
  double elapsed_ms(int from, int to) override {
    return std::chrono::duration<double, std::milli>(marks_.at(static_cast<size_t>(to)) - marks_.at(static_cast<size_t>(from)))
        .count();
  }
  bool records() const override { return true; }
  void record_begin() override { recorder_.begin(); }
  int record_end() override { return recorder_.end(); }
  void record_abandon() noexcept override { recorder_.abandon(); }
  void replay(int recording) override {
    try {
      recorder_.replay(recording);
    } catch (...) {
      emulator::memory_end_call();
      throw;
    }
  }
  void forget(int recording) noexcept override { recorder_.forget(recording); }
  void begin_call(const char* op, const std::vector<Region>& regions) override {
    if (recorder_.keep([this, name = std::string(op), regions] { begin_call(name.c_str(), regions); })) return;
    emulator::memory_begin_call(op, regions);
  }
  void end_call() override {
    if (recorder_.keep([this] { end_call(); })) return;
    emulator::memory_end_call();
  }
  bool checks() const override { return emulator::kNamesCalls; }

 private:
  emulator::Recorder recorder_;
  DeviceInfo info_;
  std::array<std::chrono::steady_clock::time_point, 1024> marks_{};
};

}  // namespace

const char* runtime_kind() { return emulator::kKind; }

int runtime_count(std::string* why) {
  std::string problem = emulator::emulator_threads_problem();
#if defined(WARPLOOM_EMULATOR_X86_64_V3)
  __builtin_cpu_init();
  const char* missing = !__builtin_cpu_supports("avx2")   ? "AVX2"
                        : !__builtin_cpu_supports("fma")  ? "FMA"
                        : !__builtin_cpu_supports("bmi2") ? "BMI2"
                                                          : nullptr;
  if (missing)
    problem = std::string("this CPU lacks ") + missing + ", which this build of the emulated device uses; rebuild here";
#endif
  if (problem.empty()) return 1;
  if (why) *why = problem;
  return 0;
}

Device* runtime_open(int index) {
  std::string why;
  if (runtime_count(&why) == 0) throw DeviceError(why);
  if (index != 0) throw DeviceError("there is one emulated device, number 0; " + std::to_string(index) + " was asked for");
  return new EmulatedDevice;
}

}  // namespace warploom
