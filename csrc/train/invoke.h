// invoke.h - one call of a table entry outside a plan, announced to devices that check.
#pragma once

#include <string>
#include <vector>

#include "csrc/core/errors.h"
#include "kernels/device.h"

namespace warploom {

struct AddressedRegions {
  std::vector<Region> regions;
  template <class T>
  void attr(const char*, T&) {}
  template <class B>
  void tensor(const char* name, B& field, DType, int64_t, bool) {
    if (!field) return;
    constexpr Region::Role role = std::is_same_v<std::decay_t<B>, In>    ? Region::read
                                  : std::is_same_v<std::decay_t<B>, Out> ? Region::write
                                                                         : Region::read_write;
    regions.push_back({name, field.data, field.bytes, role});
  }
};

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
void invoke(Device& device, const OpTable& table, const Entry<Args>& entry, const char* name, Args args, InOut workspace = {}) {
  if (!entry.run) throw UnsupportedError("version " + std::string(table.version) + " has no " + name);
  AddressedRegions collector;
  Args::visit(args, collector);
  Context context;
  context.stream = device.stream();
  context.device = &device.info();
  context.workspace = workspace;
  if (workspace) collector.regions.push_back({"workspace", workspace.data, workspace.bytes, Region::write});
  const CallScope scope(device, name, collector.regions);
  entry.run(args, context);
}

}  // namespace warploom
