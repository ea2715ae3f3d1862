// counted.cpp - of the counting build: the counts of a whole program, written into its report, each line with one request to show.
#include <map>
#include <mutex>

#include "../emulator/scheduler_hooks.h"
#include "state.h"

#if !defined(WARPLOOM_EMULATOR_COUNTING)
void warploom::lab::report_counts() {}
#else
#include "../emulator/counting.h"

extern "C" const char* warploom_counters(const char* order);

namespace warploom {
namespace emulator {
namespace {

struct Request {  // the one with the most lanes of those that were looked at
  unsigned mask = 0;
  uint32_t bytes = 0;
  uint64_t address[32];
  uintptr_t base = 0;  // of what the addresses are counted from
  std::string name;
};
struct Requests {
  std::mutex lock;
  std::map<uint64_t, Request> by_key;
};
Requests& requests() {
  static Requests* r = new Requests;
  return *r;
}
void keep(uint64_t key, unsigned mask, uint32_t bytes, const uint64_t (&address)[32]);

}  // namespace

bool is_device_variable(uintptr_t address) { return address - statics.base < statics.size; }

void keep_request(uint64_t key, unsigned mask, uint32_t bytes, const uint64_t (&address)[32]) {
  Lane* const counted = current_fiber()->counted;  // templates of the library may be the program's instrumented ones
  current_fiber()->counted = nullptr;
  keep(key, mask, bytes, address);
  current_fiber()->counted = counted;
}

namespace {
void keep(uint64_t key, unsigned mask, uint32_t bytes, const uint64_t (&address)[32]) {
  const std::lock_guard<std::mutex> hold(requests().lock);
  Request& r = requests().by_key[key];
  if (__builtin_popcount(mask) <= __builtin_popcount(r.mask)) return;
  r.mask = mask;
  r.bytes = bytes;
  const void* first = nullptr;
  for (int lane = 0; lane < 32; ++lane) {
    r.address[lane] = mask >> lane & 1u ? address[lane] : 0;
    if (!first && mask >> lane & 1u) first = reinterpret_cast<const void*>(address[lane]);
  }
  const lab::Allocation* a = lab::allocation_at(first);
  if (a) {
    r.base = a->low;
    r.name = lab::buffer_name(a->site);
  } else if (static_cast<size_t>(static_cast<const char*>(first) - current_worker->shared) < kSharedArena) {
    r.base = reinterpret_cast<uintptr_t>(current_worker->shared);
  }
}
}  // namespace

std::string kept_request(uint64_t key) {
  const std::lock_guard<std::mutex> hold(requests().lock);
  const auto it = requests().by_key.find(key);
  if (it == requests().by_key.end()) return "";
  const Request& r = it->second;
  std::string text = "{\"bytes\": " + std::to_string(r.bytes) + ", \"buffer\": \"";
  for (const char ch : r.name) {
    char escaped[8];
    snprintf(escaped, sizeof(escaped),
             static_cast<unsigned char>(ch) < 0x20 ? "\\u%04x"
             : ch == '"' || ch == '\\'             ? "\\%c"
                                                   : "%c",
             ch);
    text += escaped;
  }
  text += "\", \"lanes\": [";
  for (int lane = 0; lane < 32; ++lane)
    text += (lane ? ", " : "") + (r.mask >> lane & 1u ? std::to_string(r.address[lane] - r.base) : std::string("null"));
  return text + "]}";
}

namespace hooks {
void block_ends(Worker& w) { lab::block_of_grid_ends(w.failed); }
}  // namespace hooks

}  // namespace emulator

namespace lab {
void report_counts() { Line("counts").raw("kernels", warploom_counters("report")).write(); }
}  // namespace lab
}  // namespace warploom
#endif
