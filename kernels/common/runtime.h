// runtime.h - what a target's runtime gives library.cu: runtime_cuda.cu on the GPU, emulator/runtime.cpp on the host.
#pragma once

#include "../device.h"

namespace warploom {
const char* runtime_kind();
int runtime_count(std::string* why);
Device* runtime_open(int index);
}  // namespace warploom
