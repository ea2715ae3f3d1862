// host_device.cpp - the device interface on the host: aligned memory, plain copies, a clock. Every call is done when it returns.
//
// Large blocks are placed on 2 MB pages. allocate() asks how much memory is left first, since Linux would hand out more than
// there is and kill the process later. Compiled for the baseline instruction set.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "entries.h"
#include "threads.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

// A field of /proc/meminfo in bytes, -1 where it is not there.
int64_t meminfo(const std::string& field) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);)
    if (line.compare(0, field.size() + 1, field + ":") == 0) return std::atoll(line.c_str() + field.size() + 1) * 1024;
  return -1;
}

int64_t number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t value = -1;
  return (file >> value) ? value : -1;  // "max" is no number
}

struct CgroupMemory {
  int64_t limit = kUnlimited, left = kUnlimited;
};
CgroupMemory cgroup_memory() {
  CgroupMemory m;
  auto note = [&](int64_t limit, int64_t used) {
    if (limit <= 0 || limit > (int64_t(1) << 60)) return;
    m.limit = std::min(m.limit, limit);
    if (used >= 0) m.left = std::min(m.left, std::max<int64_t>(0, limit - used));
  };
  const std::string root = "/sys/fs/cgroup";
  auto note_v2 = [&](const std::string& place) { note(number_in(place + "/memory.max"), number_in(place + "/memory.current")); };
  note_v2(root);
  std::ifstream self("/proc/self/cgroup");
  for (std::string line; std::getline(self, line);)
    if (line.rfind("0::/", 0) == 0 && line.size() > 4) note_v2(root + line.substr(3));
  note(number_in(root + "/memory/memory.limit_in_bytes"), number_in(root + "/memory/memory.usage_in_bytes"));
  return m;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("model name", 0) == 0) {
      const auto colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  return "host CPU";
}

class HostDevice final : public Device {
 public:
  HostDevice() {
    info_.name = cpu_name();
    info_.multiprocessors = thread_count();
    const int64_t total = meminfo("MemTotal");
    info_.memory_bytes = std::min(total > 0 ? total : kUnlimited, cgroup_memory().limit);
  }
  const DeviceInfo& info() const override { return info_; }

  void* allocate(int64_t bytes, const std::string& what) override {
    const int64_t available = meminfo("MemAvailable");
    const int64_t left = std::min(available >= 0 ? available : kUnlimited, cgroup_memory().left);
    constexpr int64_t kHugePage = int64_t(2) << 20;
    const int64_t alignment = bytes >= 2 * kHugePage ? kHugePage : 256;
    const int64_t size = (std::max<int64_t>(bytes, 1) + alignment - 1) / alignment * alignment;
    void* data = size <= left ? std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(size)) : nullptr;
    if (!data)
      throw OutOfMemoryError("out of memory on the host: " + what + " needs " + std::to_string(bytes >> 20) + " MiB, " +
                             std::to_string(left >> 20) + " MiB are free; use a smaller batch size");
    if (alignment == kHugePage) (void)madvise(data, static_cast<size_t>(size), MADV_HUGEPAGE);
    return data;
  }
  void release(void* data) noexcept override { std::free(data); }
  void copy_in(void* dst, const void* host, int64_t bytes) override { copy(dst, host, bytes); }
  void copy_out(void* host, const void* src, int64_t bytes) override { copy(host, src, bytes); }
  void copy(void* dst, const void* src, int64_t bytes) override {
    if (bytes > 0) std::memmove(dst, src, static_cast<size_t>(bytes));
  }
  void fill(void* dst, int byte, int64_t bytes) override {
    if (bytes > 0) std::memset(dst, byte, static_cast<size_t>(bytes));
  }
  void synchronize() override {}
  void* stream() override { return nullptr; }
  void mark(int slot) override { marks_.at(static_cast<size_t>(slot)) = Clock::now(); }
  double elapsed_ms(int from, int to) override {
    const auto span = marks_.at(static_cast<size_t>(to)) - marks_.at(static_cast<size_t>(from));
    return std::chrono::duration<double, std::milli>(span).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  DeviceInfo info_;
  std::array<Clock::time_point, 1024> marks_{};
};

}  // namespace

Device* open_host_device(int index) {
  if (index != 0) throw DeviceError("there is one cpu device, cpu:0; cpu:" + std::to_string(index) + " does not exist");
  return new HostDevice;
}

}  // namespace warploom::cpu
