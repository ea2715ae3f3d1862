// entries.h - inside v1: every file of this folder defines the entries of its operations; table.cu collects them.
#pragma once

#include "../ops.h"

namespace warploom::v1 {

Entry<Conv2dForward> conv2d_forward();
Entry<Conv2dBackwardInput> conv2d_backward_input();
Entry<Conv2dBackwardWeight> conv2d_backward_weight();
Entry<Conv2dBackwardBias> conv2d_backward_bias();
Entry<MaxPool2dForward> max_pool2d_forward();
Entry<MaxPool2dBackward> max_pool2d_backward();
Entry<UpsampleForward> upsample_forward();
Entry<UpsampleBackward> upsample_backward();
Entry<ActivationForward> activation_forward();
Entry<ActivationBackward> activation_backward();
Entry<MseLoss> mse_loss();
Entry<SgdUpdate> sgd_update();
Entry<Add> add();
Entry<LayoutConvert> layout_convert();
Entry<GatherImages> gather_images();
Entry<AdvanceCursor> advance_cursor();

constexpr int kThreads = 256;  // of a block in every v1 kernel

}  // namespace warploom::v1
