// findings.cpp - what the checks find while a block runs (emulator/checks.cpp), written down when the block ends.
//
// Reading what nobody wrote, and races, do not stop a kernel: one run finds all of them, each pair of lines once. What a GPU would stop
// at stops the launch here too.
#if defined(WARPLOOM_EMULATOR_CHECKED)
#include <mutex>
#include <set>
#include <tuple>

#include "../emulator/source_lines.h"
#include "state.h"

namespace warploom {
namespace emulator {

namespace {
// One buffer per worker, filled on fibers: no allocation, no templates of the standard library.
constexpr int kMost = 64;
struct Kept {
  Fault faults[kMost];
  int count = 0;
  uint64_t block = ~0ull;
};
__thread Kept* kept_here __attribute__((tls_model("initial-exec"))) = nullptr;

bool same_place(const Fault& a, const Fault& b) { return a.kind == b.kind && a.pc == b.pc && a.other_pc == b.other_pc; }
}  // namespace

void keep_finding(const Fault& fault) {
  if (!kept_here) kept_here = static_cast<Kept*>(calloc(1, sizeof(Kept)));
  Kept& k = *kept_here;
  for (int i = 0; i < k.count; ++i)
    if (same_place(k.faults[i], fault)) return;
  if (k.count == kMost) return;
  k.faults[k.count] = fault;
  k.faults[k.count++].thread = current_fiber()->number;
}

namespace {

std::mutex& lock() {
  static std::mutex* m = new std::mutex;
  return *m;
}

const char* code_of(const Fault& f) {
  switch (f.kind) {
    case Fault::bounds:
      return "out-of-bounds";
    case Fault::read_only:
    case Fault::constant:
      return "read-only";
    case Fault::unwritten:
      return "uninitialised-device";
    case Fault::misaligned:
      return "misaligned";
    case Fault::shared_bounds:
      return "shared-out-of-bounds";
    case Fault::shared_unwritten:
      return "uninitialised-shared";
    case Fault::shared_race:
      return "shared-race";
    case Fault::conflict:
      return f.same_block ? "device-race" : "block-race";
    case Fault::host:
      return f.address < 4096 ? "null-pointer" : "host-pointer";
    case Fault::stack:
      return "stack";
    case Fault::index:
      return "index";
    default:
      return "fault";
  }
}

std::string words_of(const Worker& w, const Fault& f) {
  const std::string verb = f.atomic ? "updates " : f.write ? "writes " : "reads ";
  const std::string bytes = std::to_string(f.bytes) + (f.bytes == 1 ? " byte" : " bytes");
  const bool shared = f.address - w.checks->shared_base < kSharedArena;
  const bool is_static = f.address - statics.base < statics.size;
  const std::string where = shared ? shared_at(w, f.address) : is_static ? "a __device__ variable" : buffer_at(f.address);
  char address[32];
  snprintf(address, sizeof(address), "0x%zx", static_cast<size_t>(f.address));
  switch (f.kind) {
    case Fault::bounds: {
      const std::string released = lab::released_at(f.address);
      return verb + bytes + (released.empty() ? " out of bounds: " + near_buffer(f.address) : " of " + released);
    }
    case Fault::read_only:
      return verb + bytes + " to " + where + ", which may only be read";
    case Fault::constant:
      return verb + bytes + " of constant memory, which kernels may only read";
    case Fault::unwritten:
      return verb + bytes + " that nothing has written: " + where;
    case Fault::misaligned:
      return verb + bytes + " at an address that is not a multiple of " + std::to_string(f.bytes) + ": " + where;
    case Fault::shared_bounds:
      return verb + bytes + " out of bounds: " + near_shared(w, f.address);
    case Fault::shared_unwritten:
      return verb + bytes + " that no thread of the block has written yet: " + where;
    case Fault::shared_race:
      return "race on " + where + ": " + verb + bytes;
    case Fault::conflict:
      return (f.same_block ? "race on " : "race between blocks on ") + where + ": " + verb + bytes;
    case Fault::host:
      if (f.address < 4096) return verb + bytes + " at a null pointer (" + address + ")";
      if (f.address - reinterpret_cast<uintptr_t>(w.stacks) < kMaxThreads * kStackBytes)
        return verb + bytes + " of another thread's local memory";
      return verb + bytes + " of host memory (" + address + ")";
    case Fault::stack:
      return "local variables take more than the " + std::to_string(kStackBytes >> 10) +
             " KiB that the emulated device gives a thread";
    case Fault::index:
      return "index " + std::to_string(static_cast<long>(f.index_value)) + " is outside of an array of type " + f.type;
    default:
      return "";
  }
}

lab::Line& put_thread(lab::Line& line, const char* key, const Worker& w, unsigned number) {
  const dim3& d = w.launch->request->block;
  return line.triple(key, number % d.x, number / d.x % d.y, number / (d.x * d.y));
}
lab::Line& put_block(lab::Line& line, const char* key, const Worker& w, uint64_t number) {
  const dim3& g = w.launch->request->grid;
  return line.triple(key, number % g.x, number / g.x % g.y, number / g.x / g.y);
}
void put_place(lab::Line& line, const Site& site, uintptr_t pc) {
  if (site.file)
    line.put("at", site);
  else if (pc)
    line.code("pc", pc);
}

void write_fault(Worker& w, const Fault& f) {
  lab::Line line("finding");
  line.put("level", "error").put("code", code_of(f)).put("kernel", w.launch->request->name);
  put_block(line, "block", w, w.block);
  put_thread(line, "thread", w, f.thread);
  line.put("message", words_of(w, f));
  put_place(line, f.site, f.pc);
  if (f.kind == Fault::shared_race || f.kind == Fault::conflict) {
    line.put("other", f.other_write ? "write" : "read").code("other_pc", f.other_pc + library_place.base);
    put_block(line, "other_block", w, f.same_block ? w.block : f.other_block);
    put_thread(line, "other_thread", w, f.other_thread);
    line.put("other_many", static_cast<unsigned long long>(f.other_many));
  }
  line.write();
}

// Of the scheduler and the models of instructions: a sentence, which may begin with the thread.
void write_sentence(Worker& w, const Fault& f) {
  std::string text = w.failure;
  unsigned x = 0, y = 0, z = 0;
  int used = 0;
  lab::Line line("finding");
  line.put("level", "error").put("kernel", w.launch->request->name);
  put_block(line, "block", w, w.block);
  if (sscanf(text.c_str(), "thread (%u, %u, %u): %n", &x, &y, &z, &used) == 3 && used) {
    text.erase(0, static_cast<size_t>(used));
    line.triple("thread", x, y, z);
  }
  auto has = [&](const char* words) { return text.find(words) != std::string::npos; };
  const char* code = has("assertion")                                                     ? "assert"
                     : has("grid.sync()")                                                 ? "grid-sync"
                     : has("__syncthreads") || has("barrier_sync")                        ? "barrier"
                     : has("deadlock") || has("without an end") || has("waits in a loop") ? "deadlock"
                     : has("mask") || has("warp operation") || has("lanes")               ? "warp"
                     : has("mbarrier") || has("bulk copy") || has("cp.async") || has("wgmma")             ? "async"
                     : has("dynamic parallelism")                                         ? "unsupported"
                     : has("__trap")                                                      ? "trap"
                                                                                          : "fault";
  line.put("code", code).put("message", text);
  if (f.kind == Fault::text) put_place(line, f.site, f.pc);
  line.write();
}

}  // namespace

namespace hooks {

void block_ends(Worker& w) {
  using Place = std::tuple<std::string, int, uintptr_t, uint32_t>;
  static std::set<Place>* seen = new std::set<Place>;
  Kept* k = kept_here;
  const Fault failing = w.checks->fault;
  if (k && k->count) {
    const std::lock_guard<std::mutex> hold(lock());
    for (int i = 0; i < k->count; ++i) {
      const Fault& f = k->faults[i];
      bool told_by_race = false;  // read before it was written, because a barrier is missing: the race says more
      for (int j = 0; j < k->count; ++j) {
        const Fault& r = k->faults[j];
        if (f.kind == Fault::shared_unwritten && r.kind == Fault::shared_race)
          told_by_race =
              told_by_race || (!r.other_write && r.other_pc == static_cast<uint32_t>(f.pc - library_place.base)) || r.pc == f.pc;
      }
      if (told_by_race || seen->size() > 500) continue;
      if (seen->insert(Place(w.launch->request->name, f.kind, f.pc, f.other_pc)).second) write_fault(w, f);
    }
    k->count = 0;
  }
  lab::block_of_grid_ends(w.failed);
  if (!w.failed || w.exception || (failing.kind == Fault::none && !w.failure[0])) return;
  const std::lock_guard<std::mutex> hold(lock());
  if (failing.kind == Fault::none || failing.kind == Fault::text)
    write_sentence(w, failing);
  else
    write_fault(w, failing);
}

}  // namespace hooks
}  // namespace emulator
}  // namespace warploom
#endif
