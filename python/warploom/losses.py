"""Training objectives. Each compares one output with one target; several may be given, and are summed by weight.

    loss="mse"                                            # of every output with the target at its place
    loss=["mse", wl.losses.SSIM(weight=0.1, output=0)]    # a list: names stand for the output at their place
    loss={"depth": [(2.0, "rmse")], "mask": "dice"}       # by output name; (weight, loss) scales

`target` says which of the arrays in y an output is compared with (its own place if not said). A string that is no output's name
names one more target: `MSE(mask="face")` makes "face" a key of the dictionary y, or its last array where y is a list.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from warploom.errors import ArgumentError, DTypeError
from warploom.ground.array_types import Shape
from warploom.ground.arrays import number, positive

Place = int | str  # of an output or a target: its number, or its name
_NOTHING = -1  # the target of a loss that compares with none
BY_NAME: dict[str, "type[Loss]"] = {}  # filled by the classes themselves


class Loss:
    """Base. from_logits: a sigmoid is applied to the output first. mask: a target of one channel that multiplies both sides."""

    kind: ClassVar[str] = ""  # the core's; also the name, where the class does not give one
    takes_logits: ClassVar[bool] = True  # a sigmoid before it makes sense
    takes_mask: ClassVar[bool] = True
    takes_target: ClassVar[bool] = True  # else it judges an output by itself

    def __init_subclass__(cls, *, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = name or vars(cls).get("kind", "")
        if name:
            BY_NAME.setdefault(name, cls)

    def __init__(
        self,
        weight: float = 1.0,
        *,
        output: Place = 0,
        target: Place | None = None,
        from_logits: bool = False,
        mask: Place | None = None,
    ) -> None:
        self.weight = number(weight, f"{self}: weight", 0.0)
        self.output = _place(output, f"{self}: output")
        if not self.takes_target and target is not None:
            raise ArgumentError(f"{self}: the output is compared with nothing; leave target out")
        self.target = self.output if self.takes_target else _NOTHING
        if target is not None:
            self.target = _place(target, f"{self}: target")
        self.mask = None if mask is None else _place(mask, f"{self}: mask")
        self.from_logits = bool(from_logits)
        if self.from_logits and not self.takes_logits:
            raise ArgumentError(f"{self}: the output is always taken as logits; leave from_logits out")
        if mask is not None and not self.takes_mask:
            raise ArgumentError(f"{self}: a mask that multiplies the logits has no meaning here; leave mask out")

    def options(self) -> dict[str, Any]:
        """What this kind has beyond the base."""
        return {}

    def target_shape(self, output: Shape) -> Shape:
        """Of a sample's target, for an output of that shape."""
        return output

    def labels(self, output: Shape) -> tuple[int, int | None]:
        """(how many classes its targets are numbers of, the number that counts for nothing); (0, None): targets are values."""
        return 0, None

    def config(self) -> dict[str, Any]:
        """What Session takes; places are numbers by now."""
        config = {"kind": self.kind, "output": self.output, "target": self.target, "weight": self.scale(), **self.options()}
        if self.from_logits:
            config["sigmoid"] = 1
        if self.mask is not None:
            config["mask"] = self.mask
        return config

    def scale(self) -> float:
        """The factor of the core's value in the sum."""
        return self.weight

    @property
    def label(self) -> str:
        """A short name for tables and metrics."""
        return next((name for name, kind in BY_NAME.items() if kind is type(self)), self.kind)

    def __str__(self) -> str:
        return type(self).__name__


class MSE(Loss):
    """Mean of the squared difference over all elements; gradient 2/N times the difference."""

    kind = "mse"


class RMSE(Loss):
    """sqrt(mean squared difference + eps)."""

    kind = "rmse"

    def __init__(self, weight: float = 1.0, *, eps: float = 1e-6, **places: Any) -> None:
        super().__init__(weight, **places)
        self.eps = number(eps, f"{self}: eps", 0.0)

    def options(self) -> dict[str, Any]:
        return {"eps": self.eps}


class L1(Loss):
    """Mean of the absolute difference over all elements."""

    kind = "l1"


class Huber(Loss):
    """Mean over all elements of d²/2 where |d| <= delta, else delta * (|d| - delta/2); PyTorch's HuberLoss.

    Source: https://doi.org/10.1214/aoms/1177703732.
    """

    kind = "huber"

    def __init__(self, weight: float = 1.0, *, delta: float = 1.0, **places: Any) -> None:
        super().__init__(weight, **places)
        self.delta = number(delta, f"{self}: delta", 1e-12)

    def options(self) -> dict[str, Any]:
        return {"delta": self.delta}


class BCEWithLogits(Loss):
    """Binary cross-entropy of sigmoid(output) with targets in [0, 1], mean over all elements, computed from the logits."""

    kind = "bce_with_logits"
    takes_logits = False
    takes_mask = False


class Dice(Loss):
    """1 - (2 sum(p t) + smooth) / (sum p + sum t + smooth), over the whole batch at once."""

    kind = "dice"

    def __init__(self, weight: float = 1.0, *, smooth: float = 1e-6, **places: Any) -> None:
        super().__init__(weight, **places)
        self.smooth = number(smooth, f"{self}: smooth", 0.0)

    def options(self) -> dict[str, Any]:
        return {"smooth": self.smooth}


class CrossEntropy(Loss):
    """Softmax cross-entropy per pixel: logits (N, C, H, W), targets class numbers (N, H, W). As PyTorch's, mean by class weight.

    class_weight: one factor per class. Pixels labelled ignore_index count for nothing.
    """

    kind = "cross_entropy"
    takes_logits = False
    takes_mask = False

    def __init__(
        self,
        weight: float = 1.0,
        *,
        class_weight: Sequence[float] | None = None,
        ignore_index: int = -100,
        **places: Any,
    ) -> None:
        super().__init__(weight, **places)
        self.class_weight = None
        if class_weight is not None:
            values = [number(v, f"{self}: a class weight", 0.0) for v in _numbers(class_weight, f"{self}: class_weight")]
            if not any(values):
                raise ArgumentError(f"{self}: class_weight must hold at least one number greater than 0")
            self.class_weight = values
        self.ignore_index = positive(ignore_index, f"{self}: ignore_index", minimum=-(1 << 24))
        if self.ignore_index > 1 << 24:
            raise ArgumentError(f"{self}: ignore_index must be at most {1 << 24}, the largest label float32 can tell apart")

    def target_shape(self, output: Shape) -> Shape:
        return output[1:]

    def labels(self, output: Shape) -> tuple[int, int | None]:
        return output[0], self.ignore_index

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"ignore_index": self.ignore_index}
        if self.class_weight is not None:
            options["class_weight"] = self.class_weight
        return options


class SSIM(Loss):
    """1 - SSIM: a Gaussian window without padding, per channel; mean over images, channels and positions."""

    kind = "ssim"

    def __init__(
        self, weight: float = 1.0, *, window: int = 11, sigma: float = 1.5, data_range: float = 1.0, **places: Any
    ) -> None:
        super().__init__(weight, **places)
        self.window = positive(window, f"{self}: window")
        self.sigma = number(sigma, f"{self}: sigma", 1e-3)
        self.data_range = number(data_range, f"{self}: data_range", 1e-6)

    def options(self) -> dict[str, Any]:
        c1, c2 = (0.01 * self.data_range) ** 2, (0.03 * self.data_range) ** 2
        return {"window": self.window, "sigma": self.sigma, "c1": c1, "c2": c2}

    @property
    def label(self) -> str:
        return f"{super().label}{'' if self.window == 11 else self.window}"


class DSSIM(SSIM, name="dssim"):
    """Structural dissimilarity, (1 - SSIM) / 2."""

    def scale(self) -> float:
        return self.weight / 2


class KLDivergence(Loss):
    """Divergence of N(m, exp(v)) from N(0, 1): sum of (m^2 + exp(v) - 1 - v) / 2 over a sample's numbers, mean over samples.

    The first half of the output's channels are m, the second half v. There is no target. Layers that draw from such a
    distribution (`layers.Sampling`) add it to the loss by themselves. Source: https://arxiv.org/abs/1312.6114.
    """

    kind = "kl_divergence"
    takes_logits = False
    takes_mask = False
    takes_target = False


def of_layers(penalties: Sequence[tuple[str, float]], outputs: int) -> list[Loss]:
    """The losses that layers add: of outputs behind the network's own, in their order."""
    return [_by_name(kind, outputs + i, weight) for i, (kind, weight) in enumerate(penalties)]


def get(loss: Any, outputs: "int | Sequence[str]") -> list[Loss]:
    """Losses whose outputs, targets and masks are numbers. outputs: how many the model has, or their names."""
    return resolve(loss, outputs)[0]


def resolve(loss: Any, outputs: "int | Sequence[str]") -> tuple[list[Loss], list[str]]:
    """The same, and the names of the targets by number: those of the outputs, then others; only what a loss reads."""
    names = [str(i) for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    if isinstance(loss, str):
        found = [_by_name(loss, i, 1.0) for i in range(len(names))]
    elif isinstance(loss, Mapping):
        found = []
        for key, value in loss.items():
            if key not in names:
                raise ArgumentError(f"loss has the key {key!r}, but the model's outputs are {', '.join(names)}")
            place = names.index(key)
            for item in value if isinstance(value, list) else [value]:
                found.append(_item(item, place, moved=True))
    else:
        items = list(loss) if isinstance(loss, (list, tuple)) and not _weighted(loss) else [loss]
        found = [_item(item, i) for i, item in enumerate(items)]
    if not found:
        raise ArgumentError("loss must not be empty")
    return _numbered(found, names)


def labels(losses: Sequence[Loss], outputs: Sequence[str]) -> list[str]:
    """A name per loss, for metrics: its kind, with the output's name where there are several, numbered where it repeats."""
    result: list[str] = []
    several = len({x.output for x in losses if int(x.output) < len(outputs)}) > 1
    for loss in losses:
        own = several and int(loss.output) < len(outputs)  # else of a layer
        name = f"{outputs[int(loss.output)]}/{loss.label}" if own else loss.label
        repeats = sum(1 for other in result if other == name or other.startswith(f"{name}#"))
        result.append(name if not repeats else f"{name}#{repeats + 1}")
    return result


def _further(losses: Sequence[Loss], outputs: Sequence[str]) -> list[str]:
    """Names of targets that are no output's, in the order in which they come."""
    places = [place for x in losses for place in (x.target, x.mask)]
    return list(dict.fromkeys(p for p in places if isinstance(p, str) and p not in outputs))


def _numbered(losses: list[Loss], names: list[str]) -> tuple[list[Loss], list[str]]:
    targets = [*names, *_further(losses, names)]
    result = []
    for loss in losses:
        changed = copy.copy(loss)  # the user's object may serve another model
        if isinstance(loss.output, str):
            if loss.output not in names:
                raise ArgumentError(f"{loss}: output={loss.output!r}, but the model's outputs are {', '.join(names)}")
            changed.output = names.index(loss.output)
        elif loss.output >= len(names):
            raise ArgumentError(f"{loss}: output={loss.output}, but the model has {len(names)} output(s), counted from 0")
        changed.target = targets.index(loss.target) if isinstance(loss.target, str) else loss.target
        changed.mask = targets.index(loss.mask) if isinstance(loss.mask, str) else loss.mask
        result.append(changed)
    read = sorted({int(p) for x in result for p in (x.target, x.mask) if p is not None and p != _NOTHING})
    for loss in result:  # what no loss reads has no place in y
        loss.target = read.index(int(loss.target)) if loss.takes_target else _NOTHING
        loss.mask = None if loss.mask is None else read.index(int(loss.mask))
    return result, [targets[i] if i < len(targets) else str(i) for i in read]


def _weighted(value: object) -> bool:
    """(weight, loss), either way round."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return sum(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value) == 1


def _item(item: Any, place: int, *, moved: bool = False) -> Loss:
    """One entry of a list (names stand for the output at `place`) or of a dictionary (moved: objects stand for it too)."""
    weight = 1.0
    if _weighted(item):
        first, second = item
        factor, item = (second, first) if isinstance(second, (int, float)) else (first, second)
        weight = number(factor, "loss: a weight", 0.0)
    if isinstance(item, str):
        return _by_name(item, place, weight)
    if not isinstance(item, Loss):
        raise DTypeError(f"loss must be a name, a warploom.losses object or a list or dict of them, not {type(item).__name__}")
    made = copy.copy(item)
    made.weight *= weight
    if moved:
        made.target = place if item.takes_target and item.target == item.output else item.target
        made.output = place
    return made


def _by_name(name: str, output: int, weight: float) -> Loss:
    if name not in BY_NAME:
        raise ArgumentError(f"unknown loss {name!r}; expected one of {', '.join(BY_NAME)}")
    return BY_NAME[name](weight, output=output)


def _place(value: object, what: str) -> Place:
    if isinstance(value, str):
        if not value:
            raise ArgumentError(f"{what} must be a number from 0 or a name, not ''")
        return value
    return positive(value, what, minimum=0)


def _numbers(values: Any, what: str) -> list[float]:
    try:
        found = [float(v) for v in values]
    except (TypeError, ValueError):
        raise DTypeError(f"{what} must be a list of numbers, not {values!r}") from None
    if not found or not all(math.isfinite(v) for v in found):
        raise ArgumentError(f"{what} must hold finite numbers, one per class, not {values!r}")
    return found
