// invoke.h - one call of a table entry outside a plan, announced to devices that check.
#pragma once

#include <string>
#include <vector>

#include "csrc/core/errors.h"
#include "csrc/core/visitors.h"

namespace warploom {

// Tells a checking device what a call may touch, for as long as this object lives.
class CallScope {
 public:
  CallScope(Device& device, const std::string& name, const std::vector<Region>& regions) : device_(device) {
    device_.begin_call(name.c_str(), regions);
  }
  ~CallScope() { device_.end_call(); }
  CallScope(const CallScope&) = delete;
  CallScope& operator=(const CallScope&) = delete;

 private:
  Device& device_;
};

template <class Args>
void invoke(Device& device, const OpTable& table, const Entry<Args>& entry, const char* name, Args args, InOut workspace = {},
            void* stream = nullptr) {  // nullptr: the device's own
  if (!entry.run) throw UnsupportedError("version " + std::string(table.version) + " has no " + name);
  std::vector<Region> regions;
  visit_buffers(args, [&](const char* buffer, const auto& field, Region::Role role) {
    regions.push_back({buffer, field.data, field.bytes, role});
  });
  Context context;
  context.stream = device.stream();
  if (stream) context.stream = stream;
  context.device = &device.info();
  context.workspace = workspace;
  if (workspace) regions.push_back({"workspace", workspace.data, workspace.bytes, Region::write});
  const CallScope scope(device, name, regions);
  entry.run(args, context);
}

}  // namespace warploom
