// grid_sync.h - the barrier of a whole grid, for cooperative launches.
#pragma once

namespace warploom {
namespace lab {
void grid_barrier(emulator::Site site);
bool is_cooperative();
}  // namespace lab
}  // namespace warploom
