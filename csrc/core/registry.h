// registry.h - the device libraries: those beside the extension (warploom/_lib/*.so), found, loaded and asked once, on first use, and
// those that are added while the program runs, such as an emulated device that was compiled only when it was asked for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/interop.h"

namespace warploom {

struct LoadedLibrary {
  std::string path, kind;
  const DeviceLibrary* library = nullptr;                // nullptr: could not be loaded, `why` says why
  const Interop* interop = nullptr;                      // nullptr: its memory is not shared with other libraries
  const char* (*counters)(const char* order) = nullptr;  // of the counting emulated device: see kernels/emulator/count_report.cpp
  int devices = 0;
  std::string why;  // why there is no usable device
  bool usable() const { return library && devices > 0; }
};

// A device opened by name ("cpu", "cuda", "cuda:1", "emulated", "emulated:checked", ...) and the tables of its library.
struct OpenDevice {
  std::string name;
  std::shared_ptr<Device> device;
  const DeviceLibrary* library;
  const Interop* interop = nullptr;
  int index = 0;                                                         // among the devices of its library
  bool on_host() const { return std::string(library->kind) != "cuda"; }  // Python can look into its memory
  bool same_device(const OpenDevice& o) const { return library == o.library && index == o.index; }
  const OpTable& table(const std::string& version) const;  // throws UnsupportedError naming the versions there are
};

std::vector<LoadedLibrary> loaded_libraries();
// Loads one more; throws DeviceError if it is none, or if it has no usable device here.
void add_library(const std::string& path);
// The entries that a version has of its own: not those of the version in its library whose float32 convolutions it takes over.
std::vector<std::string> own_entries(const DeviceLibrary& library, const OpTable& table);
// Opened once per process and shared; throws DeviceError with the reason if it is not there.
OpenDevice open_device(const std::string& name);

}  // namespace warploom
