// entries.h - every entry point of the host kernel set, as library.cpp puts them into the table.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/device.h"

namespace warploom::cpu {

// csrc/cpu brings what the versions bring; the operations around them stand in kernels/ops/<name>/cpu.cpp, whole entries.
#define WL_OP(name, Args) void name(const Args&, const Context&);
#define WL_SHARED_OP(name, Args) Entry<Args> name();
#include "kernels/ops.def"
#undef WL_OP

std::string conv2d_forward_why_not(const Conv2dForward&);
const char* conv2d_forward_algorithm(const Conv2dForward&);
int64_t conv2d_forward_workspace(const Conv2dForward&);
int64_t conv2d_forward_saved(const Conv2dForward&);
std::string conv2d_backward_input_why_not(const Conv2dBackwardInput&);
const char* conv2d_backward_input_algorithm(const Conv2dBackwardInput&);
int64_t conv2d_backward_input_workspace(const Conv2dBackwardInput&);
std::string conv2d_backward_weight_why_not(const Conv2dBackwardWeight&);
const char* conv2d_backward_weight_algorithm(const Conv2dBackwardWeight&);
int64_t conv2d_backward_weight_workspace(const Conv2dBackwardWeight&);
std::string conv2d_backward_bias_why_not(const Conv2dBackwardBias&);
const char* conv2d_backward_bias_algorithm(const Conv2dBackwardBias&);
int64_t conv2d_backward_bias_workspace(const Conv2dBackwardBias&);
std::string conv2d_backward_why_not(const Conv2dBackward&);
const char* conv2d_backward_algorithm(const Conv2dBackward&);
int64_t conv2d_backward_workspace(const Conv2dBackward&);
std::string conv2d_mean_forward_why_not(const Conv2dMeanForward&);
int64_t conv2d_mean_forward_workspace(const Conv2dMeanForward&);
int64_t mse_loss_workspace(const MseLoss&);

Device* open_host_device(int index);

}  // namespace warploom::cpu
