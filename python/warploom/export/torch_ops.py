"""Each operation of the core as an expression of PyTorch. An operation without an entry in OPS cannot be exported.

A translator is given the source that is being written, the step, and its inputs as Python expressions; it returns an expression.
"""

from collections.abc import Callable, Sequence
from typing import Any

from warploom.errors import UnsupportedError
from warploom.export.part import Step
from warploom.export.torch_source import Source

Translator = Callable[[Source, Step, list[str]], str]
OPS: dict[str, Translator] = {}
_FOLDED = ("activation", "batch_norm", "group_norm")
_NORMS = {1: "BatchNorm1d", 2: "BatchNorm1d", 3: "BatchNorm2d", 4: "BatchNorm3d"}  # by the axes of a sample


def translate(source: Source, step: Step, inputs: list[str]) -> str:
    """The step's value; UnsupportedError where its operation is not known here."""
    if step.op not in OPS:
        raise UnsupportedError(f"layer {step.name!r} cannot be exported to PyTorch: there is no translation of {step.op!r}")
    return OPS[step.op](source, step, inputs)


def folds(step: Step) -> bool:
    """Whether it is written around the expression that it follows: what names its input once."""
    twice = KINDS.get(step.attributes.get("kind", ""), "").count("{x}") > 1
    return step.op in _FOLDED and not twice


def _op(name: str) -> Callable[[Translator], Translator]:
    def known(translator: Translator) -> Translator:
        OPS[name] = translator
        return translator

    return known


def _pair(sizes: Sequence[int]) -> str:
    """2 for (2, 2), as people write it."""
    return repr(sizes[0]) if len(set(sizes)) == 1 else repr(tuple(sizes))


def _arguments(*given: str, **named: Any) -> str:
    return ", ".join([*given, *(f"{key}={value}" for key, value in named.items() if value is not None)])


def _other_than(sizes: Sequence[int], usual: int) -> str | None:
    """For an argument that may be left out."""
    return None if set(sizes) == {usual} else _pair(sizes)


OPS["identity"] = lambda source, step, x: x[0]
OPS["add"] = lambda source, step, x: " + ".join(x)
OPS["multiply"] = lambda source, step, x: " * ".join(x)
OPS["concat"] = lambda source, step, x: f"torch.cat([{', '.join(x)}], 1)"


@_op("conv2d")
def _conv2d(source: Source, step: Step, x: list[str]) -> str:
    c_out, per_group, *kernel = source.shape(step, "weight")
    groups = step.attributes.get("groups", 1)
    top, bottom, left, right = step.attributes.get("padding", [0, 0, 0, 0])
    even = (top, left) == (bottom, right)
    made = "nn.Conv2d(" + _arguments(
        repr(groups * per_group), repr(c_out), _pair(kernel), stride=_other_than(step.attributes.get("stride", [1, 1]), 1),
        padding=_other_than([top, left], 0) if even else None, groups=groups if groups > 1 else None, bias=_bias(step),
    ) + ")"  # fmt: skip
    given = x[0] if even else f"F.pad({x[0]}, ({left}, {right}, {top}, {bottom}))"
    return f"{source.module(step, made, 'weight', 'bias')}({given})"


@_op("conv_transpose2d")
def _conv_transpose2d(source: Source, step: Step, x: list[str]) -> str:
    c_in, per_group, *kernel = source.shape(step, "weight")
    groups = step.attributes.get("groups", 1)
    made = "nn.ConvTranspose2d(" + _arguments(
        repr(c_in), repr(groups * per_group), _pair(kernel), stride=_other_than(step.attributes.get("stride", [1, 1]), 1),
        padding=_other_than(step.attributes.get("padding", [0, 0]), 0),
        output_padding=_other_than(step.attributes.get("output_padding", [0, 0]), 0),
        groups=groups if groups > 1 else None, bias=_bias(step),
    ) + ")"  # fmt: skip
    return f"{source.module(step, made, 'weight', 'bias')}({x[0]})"


@_op("linear")
def _linear(source: Source, step: Step, x: list[str]) -> str:
    features, given = source.shape(step, "weight")
    made = f"nn.Linear({_arguments(repr(given), repr(features), bias=_bias(step))})"
    return f"{source.module(step, made, 'weight', 'bias')}({x[0]})"


def _bias(step: Step) -> str | None:
    return None if len(step.parameters) > 1 else "False"


@_op("batch_norm")
def _batch_norm(source: Source, step: Step, x: list[str]) -> str:
    shape = step.output.shape
    if len(shape) not in _NORMS:
        raise UnsupportedError(f"layer {step.name!r} cannot be exported to PyTorch: no batch norm there takes {shape}")
    eps, momentum = step.attributes.get("eps", 1e-5), step.attributes.get("momentum", 0.1)
    made = _arguments(repr(shape[0]), eps=None if eps == 1e-5 else eps, momentum=None if momentum == 0.1 else momentum)
    module = source.module(step, f"nn.{_NORMS[len(shape)]}({made})", "weight", "bias", "running_mean", "running_var")
    return f"{module}({x[0]})"


@_op("group_norm")
def _group_norm(source: Source, step: Step, x: list[str]) -> str:
    groups, eps = step.attributes.get("groups", 1), step.attributes.get("eps", 1e-5)
    if not step.parameters:
        return f"F.group_norm({_arguments(x[0], repr(groups), eps=eps)})"
    made = _arguments(repr(groups), repr(step.output.shape[0]), eps=None if eps == 1e-5 else eps)
    return f"{source.module(step, f'nn.GroupNorm({made})', 'weight', 'bias')}({x[0]})"


@_op("rms_norm")
def _rms_norm(source: Source, step: Step, x: list[str]) -> str:
    return f"F.rms_norm({x[0]}, {tuple(step.output.shape)}, eps={step.attributes.get('eps', 1e-6)})"


def _pool(function: str) -> Translator:
    def pool(source: Source, step: Step, x: list[str]) -> str:
        kernel = step.attributes["kernel"]
        stride = step.attributes.get("stride", kernel)
        return f"{function}({_arguments(x[0], _pair(kernel), stride=None if stride == kernel else _pair(stride))})"

    return pool


OPS["max_pool2d"], OPS["avg_pool2d"] = _pool("F.max_pool2d"), _pool("F.avg_pool2d")


@_op("upsample")
def _upsample(source: Source, step: Step, x: list[str]) -> str:
    scale = step.attributes["scale"]
    if step.attributes.get("mode", "nearest") == "bilinear":
        return f'F.interpolate({x[0]}, scale_factor={_pair(scale)}, mode="bilinear", align_corners=False)'
    # "nearest" multiplies by 1 / scale, which rounds for scales such as 41: its pixels are not always i // scale.
    exact = ', mode="nearest-exact"' if any(factor & (factor - 1) for factor in scale) else ""
    return f"F.interpolate({x[0]}, scale_factor={_pair(scale)}{exact})"


@_op("dropout")
def _dropout(source: Source, step: Step, x: list[str]) -> str:
    function = "F.dropout2d" if step.attributes.get("whole_channels") else "F.dropout"
    return f"{function}({x[0]}, {step.attributes.get('p', 0.5)}, self.training)"


OPS["winner_take_all"] = OPS["identity"]  # as at inference; training in PyTorch would leave out nothing: see docs/export.md


@_op("gaussian_sample")
def _gaussian_sample(source: Source, step: Step, x: list[str]) -> str:
    """The means; training in PyTorch would draw: see layers.Sampling."""
    return f"{x[0]}[:, :{step.output.shape[0]}]"


@_op("depth_to_space")
def _depth_to_space(source: Source, step: Step, x: list[str]) -> str:
    block, given = step.attributes["block"], x[0]
    if step.attributes.get("order", "dcr") == "dcr":  # block-major channels; PyTorch's are channel-major
        given = f"{given}.unflatten(1, ({block * block}, {step.output.shape[0]})).transpose(1, 2).flatten(1, 2)"
    return f"F.pixel_shuffle({given}, {block})"


@_op("reshape")
def _reshape(source: Source, step: Step, x: list[str]) -> str:
    shape, flat = step.output.shape, len(step.inputs[0].shape) == 1
    given = x[0] if flat else f"{x[0]}.flatten(1)"
    return given if len(shape) == 1 else f"{given}.unflatten(1, {shape})"


@_op("activation")
def _activation(source: Source, step: Step, x: list[str]) -> str:
    kind = step.attributes.get("kind", "relu")
    if kind not in KINDS:
        raise UnsupportedError(f"layer {step.name!r} cannot be exported to PyTorch: there is no translation of {kind!r}")
    return KINDS[kind].format(x=x[0], slope=step.attributes.get("negative_slope", 0.0))


KINDS = {
    "none": "{x}",
    "relu": "F.relu({x})",
    "leaky_relu": "F.leaky_relu({x}, {slope})",
    "sigmoid": "torch.sigmoid({x})",
    "tanh": "torch.tanh({x})",
    "elu": "F.elu({x}, {slope})",
    "exp": "torch.exp({slope} * ({x} - 1))",
    # Below 1e-37 a constant: at 0 the root has no gradient, and here it is to be 0.
    "signed_sqrt": "torch.sign({x}) * torch.sqrt(torch.abs({x}).clamp(min=1e-37))",
    "silu": "F.silu({x})",
    "gelu": "F.gelu({x})",
    "gelu_tanh": 'F.gelu({x}, approximate="tanh")',
    "rsqrt": "torch.rsqrt(F.relu({x}) + {slope})",
}
