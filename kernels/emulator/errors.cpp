// errors.cpp - the words of a failed block.
#include <cstdio>

#include "scheduler_hooks.h"

namespace warploom {
namespace emulator {
namespace hooks {

namespace {
// The part of a path that a person looks for: from the folder "kernels" on, or the last two parts.
[[maybe_unused]] const char* short_path(const char* path) {
  const char* last = path;
  const char* before = path;
  for (const char* p = path; *p; ++p) {
    if (strncmp(p, "kernels/", 8) == 0 && (p == path || p[-1] == '/')) return p;
    if (*p == '/') before = last, last = p + 1;
  }
  return before;
}

const char* place([[maybe_unused]] const Site& site, [[maybe_unused]] int* line) {
#if defined(WARPLOOM_EMULATOR_INSTRUMENTED)
  if (site.file) return *line = site.line, short_path(site.file);
#endif
  return nullptr;
}

int print_site(char* text, size_t size, const Site& site) {
#if defined(WARPLOOM_EMULATOR_INSTRUMENTED)
  if (site.file) return snprintf(text, size, " at %s:%d", short_path(site.file), site.line);
#else
  (void)site, (void)text, (void)size;
#endif
  return 0;
}
}  // namespace

int describe_thread(Worker&, Fiber* f, char* text, size_t size) {
  return snprintf(text, size, "thread (%u, %u, %u): ", f->thread.x, f->thread.y, f->thread.z);
}

int describe_waiting(Worker& w, char* text, size_t size) {
  size_t used = 0;
  auto put = [&](int n) {
    used = n < 0 ? used : used + static_cast<size_t>(n) < size ? used + static_cast<size_t>(n) : size - 1;
  };
  if (w.at_barrier.head) {
    const Fiber* f = w.at_barrier.head;
    put(snprintf(text + used, size - used, "; %u at __syncthreads", w.arrived));
    put(print_site(text + used, size - used, f->site));
    put(snprintf(text + used, size - used, " (thread (%u, %u, %u) first)", f->thread.x, f->thread.y, f->thread.z));
  }
  int shown = 0;
  for (unsigned i = 0; i < (w.threads + 31) / 32 && shown < 3; ++i) {
    for (int k = 0; k < w.warps[i].pending && shown < 3; ++k, ++shown) {
      const Rendezvous& r = w.warps[i].rendezvous[k];
      put(snprintf(text + used, size - used, "; warp %u's lanes 0x%08x at a warp operation with mask 0x%08x", i, r.arrived,
                   r.mask));
      put(print_site(text + used, size - used, r.site));
      put(snprintf(text + used, size - used, " wait for lanes 0x%08x", r.mask & ~(r.arrived | w.warps[i].exited)));
    }
  }
  if (w.async) put(describe_async_waiting(w, place, text + used, size - used));
  return static_cast<int>(used);
}

}  // namespace hooks

std::string where(const Launch& launch, uint64_t block) {
  const dim3& g = launch.request->grid;
  char text[96];
  snprintf(text, sizeof(text), ": block (%llu, %llu, %llu)", static_cast<unsigned long long>(block % g.x),
           static_cast<unsigned long long>(block / g.x % g.y), static_cast<unsigned long long>(block / g.x / g.y));
  return launch.request->name + std::string(text);
}

}  // namespace emulator
}  // namespace warploom
