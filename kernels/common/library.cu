// library.cu - what a device library of kernels exports: the device and the tables of all versions in versions.def, each under the
// name and with the summary that its line there gives it.
// Compiled once per target: by nvcc for cuda, by the host compiler for emulated and emulated:checked.
#include "portable.cuh"
#include "runtime.h"

namespace warploom {
#define WL_VERSION(name, folder, summary) \
  namespace name {                        \
  const OpTable& table();                 \
  }
#include "../versions.def"
#if defined(WARPLOOM_TEMPLATE)
WL_VERSION(copyme, _template, "")
#endif
#undef WL_VERSION

static OpTable named(OpTable table, const char* name, const char* summary) {
  table.version = name, table.summary = summary;
  return table;
}
}  // namespace warploom

extern "C" WL_EXPORT const warploom::DeviceLibrary* warploom_device_library() {
  using namespace warploom;
  static const DeviceLibrary library = [] {
    DeviceLibrary l;
    l.kind = runtime_kind();
    l.count = runtime_count;
    l.open = runtime_open;
#if !defined(__CUDACC__)
    // The tables' files may use instructions that this CPU lacks: count() says so, and nothing of theirs may run.
    if (runtime_count(nullptr) == 0) return l;
#endif
    static const OpTable tables[] = {
#define WL_VERSION(name, folder, summary) named(name::table(), #name, summary),
#include "../versions.def"
#if defined(WARPLOOM_TEMPLATE)
        WL_VERSION(copyme, _template, "a version to copy: v2 with an addition of its own")
#endif
#undef WL_VERSION
    };
    constexpr int kTables = static_cast<int>(sizeof(tables) / sizeof(tables[0]));
    static const OpTable* places[kTables];
    for (int i = 0; i < kTables; ++i) places[i] = &tables[i];
    l.tables = places;
    l.table_count = kTables;
    return l;
  }();
  return &library;
}
