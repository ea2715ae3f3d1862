"""Eager operations: NumPy in, NumPy out, NCHW float32, weights in PyTorch's shapes.

Every operation `f` has an `f_backward` that takes dy and then what f took. version and device choose the kernels: version="v3",
device="emulated" runs v3's kernels on the emulated device. A version asked for with device="auto" runs on cuda where there is
one, else on the emulated device: here the kernels that were named matter more than speed.
"""

from warploom.ops.convolution import conv2d, conv2d_backward, conv_transpose2d, conv_transpose2d_backward, linear, linear_backward
from warploom.ops.losses import bce_with_logits_loss, cross_entropy_loss, dice_loss, l1_loss, rmse_loss, ssim_loss
from warploom.ops.merging import (
    concat,
    concat_backward,
    depth_to_space,
    depth_to_space_backward,
    flatten,
    flatten_backward,
    multiply,
    multiply_backward,
)
from warploom.ops.normalization import batch_norm, batch_norm_backward, rms_norm, rms_norm_backward
from warploom.ops.pointwise import (
    add,
    add_backward,
    leaky_relu,
    leaky_relu_backward,
    mse_loss,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
)
from warploom.ops.resize import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward, upsample, upsample_backward

__all__ = [
    "add",
    "add_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "bce_with_logits_loss",
    "concat",
    "concat_backward",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "cross_entropy_loss",
    "depth_to_space",
    "depth_to_space_backward",
    "dice_loss",
    "flatten",
    "flatten_backward",
    "l1_loss",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "mse_loss",
    "multiply",
    "multiply_backward",
    "relu",
    "relu_backward",
    "rms_norm",
    "rms_norm_backward",
    "rmse_loss",
    "sigmoid",
    "sigmoid_backward",
    "ssim_loss",
    "upsample",
    "upsample_backward",
]
