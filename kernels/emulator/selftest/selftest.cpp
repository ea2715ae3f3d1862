// selftest.cpp - the C functions through which the cases are listed and run.
#include "selftest.h"

#include "../../common/runtime.h"

namespace warploom {
namespace selftest {
std::vector<Case>& cases() {
  static auto* all = new std::vector<Case>;
  return *all;
}
}  // namespace selftest
}  // namespace warploom

using namespace warploom;
using namespace warploom::selftest;

extern "C" WL_EXPORT const char* warploom_selftest_kind() { return runtime_kind(); }

extern "C" WL_EXPORT const char* warploom_selftest_case(int index) {  // "group/name", or null past the last
  static std::string name;
  if (index < 0 || static_cast<size_t>(index) >= cases().size()) return nullptr;
  name = std::string(cases()[static_cast<size_t>(index)].group) + "/" + cases()[static_cast<size_t>(index)].name;
  return name.c_str();
}

extern "C" WL_EXPORT const char* warploom_selftest_run(int index) {  // "" or what went wrong
  static std::string said;
  said.clear();
  Tester t;
  try {
    static Device* device = runtime_open(0);
    t.device = device;
    t.context.stream = device->stream();
    t.context.device = &device->info();
    cases().at(static_cast<size_t>(index)).run(t);
  } catch (const KernelFault& e) {
    said = std::string("KernelFault: ") + e.what();
  } catch (const std::exception& e) {
    said = e.what();
  }
  if (t.device) {
    t.device->end_call();
    for (void* p : t.owned) t.device->release(p);
  }
  return said.c_str();
}
