// cuda_runtime.h - CUDA's name for what a program of the lab finds; warploom.lab includes it before the program's first line, as nvcc does.
#pragma once

#include "../program.h"
