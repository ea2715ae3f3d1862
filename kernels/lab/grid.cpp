// grid.cpp - cooperative launches: every block on an OS thread of its own, and a barrier at which all of them meet.
//
// What blocks do before the barrier is ordered before what they do after it: they go on as if it were another launch.
#include <condition_variable>
#include <mutex>

#include "state.h"
// After it: needs its words.
#include "grid_sync.h"

namespace warploom {
namespace lab {
namespace {

struct Barrier {
  std::mutex lock;
  std::condition_variable wake;
  uint64_t blocks = 0, arrived = 0, ended = 0, generation = 0, serial = 0;
  bool cooperative = false, broken = false;
};
Barrier& barrier() {
  static Barrier* b = new Barrier;
  return *b;
}

// On a fiber, but all that the OS thread could do else waits for it.
enum class Meeting { met, somebody_returned, given_up };
Meeting meet() {
  Barrier& b = barrier();
  std::unique_lock<std::mutex> hold(b.lock);
  if (b.ended && !b.broken) return Meeting::somebody_returned;
  const uint64_t generation = b.generation;
  if (++b.arrived == b.blocks) {
    b.arrived = 0;
    ++b.generation;
    b.serial = emulator::next_serial();
    b.wake.notify_all();
  } else {
    b.wake.wait(hold, [&] { return b.generation != generation || b.ended; });
    if (b.generation == generation) {
      const bool first = !b.broken;
      b.broken = true;
      return first ? Meeting::somebody_returned : Meeting::given_up;
    }
  }
  return b.broken ? Meeting::given_up : Meeting::met;
}

}  // namespace

void open_grid(uint64_t blocks, bool cooperative) {
  Barrier& b = barrier();
  const std::lock_guard<std::mutex> hold(b.lock);
  b.blocks = blocks;
  b.arrived = b.ended = 0;
  b.cooperative = cooperative;
  b.broken = false;
}

void block_of_grid_ends(bool failed) {
  Barrier& b = barrier();
  if (!b.cooperative) return;
  const std::lock_guard<std::mutex> hold(b.lock);
  ++b.ended;
  b.broken = b.broken || failed;
  b.wake.notify_all();
}

bool is_cooperative() { return barrier().cooperative; }

void grid_barrier(Site site) {
  using namespace emulator;
  Fiber* self = current_fiber();
  if (!barrier().cooperative) {
    self->site = site;
    fail("grid.sync() in a launch that is not cooperative: blocks that do not run at the same time would wait for ever");
  }
  block_barrier(BlockVote::none, 0, site);
  if (self->number == 0) {
    const Meeting how = meet();
    self->site = site;
    if (how == Meeting::somebody_returned)
      fail(
          "waits at grid.sync(), but another block of the grid has returned without it: every block must reach every "
          "grid.sync()");
    if (how == Meeting::given_up) {
      current_worker->failure[0] = 0;
      abandon(*current_worker);
    }
#if defined(WARPLOOM_EMULATOR_CHECKED)
    CheckState& c = *current_worker->checks;
    c.block_tag = (global_tag::launch_number(barrier().serial) << global_tag::kSerial) |
                  ((current_worker->block & global_tag::kBlockMask) << global_tag::kBlock);
#endif
  }
  block_barrier(BlockVote::none, 0, site);
}

}  // namespace lab
}  // namespace warploom
