// device.h - the contract between the engine and a device library.
//
// Every device is a shared library beside the Python package (warploom/_lib/): cpu_<isa>, emulated, checked, counting, cuda. It
// exports one C function, warploom_device_library(), and hides everything else, so that the same kernel sources can be built several
// ways and loaded side by side. The engine loads what is there and asks; nothing fails at import.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "ops.h"

#define WL_EXPORT __attribute__((visibility("default")))

namespace warploom {

// Thrown by device libraries; the engine turns each into its Python exception.
struct WL_EXPORT DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct WL_EXPORT OutOfMemoryError : DeviceError {
  using DeviceError::DeviceError;
};
// A kernel broke a rule that the checked emulator watches: names kernel, block, thread and source line.
struct WL_EXPORT KernelFault : DeviceError {
  using DeviceError::DeviceError;
};

// The memory that one call may touch. On a checking device anything else is out of bounds, a write to `read` is a fault, and
// `write` regions count as unwritten when the call begins. Other devices ignore it.
struct Region {
  enum Role { read, write, read_write };
  std::string name;
  const void* data;
  int64_t bytes;
  Role role;
};

class WL_EXPORT Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual void* allocate(int64_t bytes, const std::string& what) = 0;  // 256-byte aligned; throws OutOfMemoryError
  virtual void release(void* data) noexcept = 0;
  virtual void copy_in(void* dst, const void* host, int64_t bytes) = 0;   // host memory may be reused on return
  virtual void copy_out(void* host, const void* src, int64_t bytes) = 0;  // waits for the work before it
  virtual void copy(void* dst, const void* src, int64_t bytes) = 0;       // device to device, in stream order
  virtual void fill(void* dst, int byte, int64_t bytes) = 0;              // in stream order
  virtual void synchronize() = 0;
  virtual void* stream() = 0;  // goes into Context::stream
  // Time marks in stream order: mark(slot) then, after synchronize(), milliseconds between two slots. 0 <= slot < 1024.
  virtual void mark(int slot) = 0;
  virtual double elapsed_ms(int from, int to) = 0;
  // Recording: what is put on the stream between record_begin() and record_end() is kept, not run; replay() puts all of it there at
  // once. In between, nothing may wait for the device or copy from or to the host. A device that does not record has the calls
  // made again.
  virtual bool records() const { return false; }
  virtual void record_begin() {}
  virtual int record_end() { return -1; }    // a number for replay(); the recording is over even where this throws
  virtual void record_abandon() noexcept {}  // instead of record_end()
  virtual void replay(int /*recording*/) {}
  virtual void forget(int /*recording*/) noexcept {}
  virtual void begin_call(const char* /*op*/, const std::vector<Region>& /*regions*/) {}
  virtual void end_call() {}
  virtual bool checks() const { return false; }  // wants begin_call() and end_call()
};

// What an engine and a library must agree on: a number, to be raised when this file, Entry or OpTable changes, and the names of all entries and
// activations and the sizes of the entries' arguments, which are added to it.
constexpr uint32_t contract() {
  uint32_t sum = 8;
  const auto add = [&sum](const char* name, size_t size) {
    for (; *name; ++name) sum = sum * 31 + static_cast<unsigned char>(*name);
    sum = sum * 31 + static_cast<uint32_t>(size);
  };
#define WL_OP(name, Args) add(#name, sizeof(Args));
#include "ops.def"
#undef WL_OP
#define WL_ITEM(name) add(#name, 0);
  WL_ACTIVATIONS(WL_ITEM)
#undef WL_ITEM
  return sum;
}

struct DeviceLibrary {
  static constexpr uint32_t kAbi = contract();
  uint32_t abi = kAbi;
  const char* kind = "";  // "cpu", "cuda", "emulated", "emulated:checked", "emulated:counting"
  // Number of usable devices; 0 and a sentence in *why when there is none (no driver, this CPU lacks AVX2, ...).
  int (*count)(std::string* why) = nullptr;
  Device* (*open)(int index) = nullptr;  // throws DeviceError
  const OpTable* const* tables = nullptr;
  int table_count = 0;
};

}  // namespace warploom

// extern "C" const warploom::DeviceLibrary* warploom_device_library();
