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

inline void advance_cursor(Device& device, const OpTable& table, InOut cursor, int by) {
  AdvanceCursor advance;
  advance.step = by, advance.cursor = cursor;
  invoke(device, table, table.advance_cursor, "advance_cursor", advance);
}

// Errands with an update of all the parameters whose gradients they write, or read and write where they stand.
inline void invoke_errands(Device& device, const OpTable& table, const char* name, const std::vector<Errand>& list,
                           const SgdUpdate& update) {
  std::vector<Region> regions = {{"hyper", update.hyper.data, update.hyper.bytes, Region::read},
                                 {"g", update.g.data, update.g.bytes, Region::read_write},
                                 {"w", update.w.data, update.w.bytes, Region::read_write}};
  if (update.velocity) regions.push_back({"velocity", update.velocity.data, update.velocity.bytes, Region::read_write});
  const auto* const g = static_cast<const char*>(update.g.data);
  for (const Errand& e : list) {
    const bool moves = e.to.data >= g && e.to.data < g + update.g.bytes;
    if (e.from && e.from.data != e.to.data) regions.push_back({"from", e.from.data, e.from.bytes, Region::read});
    if (!moves) regions.push_back({"to", e.to.data, e.to.bytes, Region::read_write});
    if (e.total) regions.push_back({"total", e.total.data, e.total.bytes, Region::read_write});
  }
  Context context;
  context.stream = device.stream();
  context.device = &device.info();
  const CallScope scope(device, name, regions);
  table.run_errands(list.data(), static_cast<int>(list.size()), &update, context);
}

}  // namespace warploom
