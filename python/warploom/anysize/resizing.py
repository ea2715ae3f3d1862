"""The same layers on another input size, and the sizes that a network can take."""

from collections import OrderedDict
from typing import Generic, TypeVar

from warploom.errors import ArgumentError, GraphError
from warploom.inspection.receptive import ReceptiveFields
from warploom.network.network import Network

_N = TypeVar("_N", bound=Network)
_LARGEST_STEP = 256
_KEPT = 8  # networks of other sizes, each with a plan of its own
Size = tuple[int, int]


class Sizes(Generic[_N]):
    """A network whose inputs are images of one size, at other sizes.

    A size fits where every output keeps its proportion to the input: 32x32 -> 8x8 and 48x80 -> 12x20. Along each axis such
    sizes lie a step apart, the product of the strides on the way.
    """

    def __init__(self, network: _N) -> None:
        self.network = network
        self.why = ""  # it takes its own size only
        self._kept: OrderedDict[Size, _N] = OrderedDict()
        self._steps: Size | None = None
        self._reach: Size | None = None
        shapes = {t.shape[1:] for t in network.inputs}
        if len(shapes) != 1 or any(len(t.shape) != 3 for t in network.inputs):
            self.own: Size = (0, 0)
            self.why = "its inputs are not images of one size"
            return
        height, width = shapes.pop()
        self.own = height, width

    @property
    def steps(self) -> Size | None:
        """Of the height and the width; None where the network takes its own size only (then `why` says why)."""
        if self._steps is None and not self.why:
            height, width = self.own
            found = [
                next((i for i in range(1, _LARGEST_STEP + 1) if self._fits(height + i * down, width + i * (1 - down))), 0)
                for down in (1, 0)
            ]
            if all(found):
                self._steps, self.why = (found[0], found[1]), ""
        return self._steps

    def _fits(self, height: int, width: int) -> bool:
        try:
            made = self.network.resized(height, width)
        except (ArgumentError, GraphError) as error:
            self.why = str(error)
            return False
        for ours, theirs in zip(self.network.outputs, made.outputs, strict=True):
            if len(ours.shape) != 3:
                self.why = f"its output is {ours.shape}, no map"
                return False
            size, own, new = (height, width), ours.shape[1:], theirs.shape[1:]
            if any(own[i] * size[i] != new[i] * self.own[i] for i in (0, 1)):
                self.why = f"its output does not grow with its input ({self.own} becomes {own}, {size} becomes {new})"
                return False
        return True

    def fitting(self, height: int, width: int) -> Size:
        """The smallest size that fits and is not smaller. ArgumentError where the network takes its own size only."""
        if (height, width) == self.own:
            return self.own
        steps = self.steps
        if steps is None:
            raise ArgumentError(
                f"model {self.network.name!r} takes images of {self.own[0]}x{self.own[1]} only, not {height}x{width}: {self.why}"
            )
        wanted = [size + (own - size) % step for size, own, step in zip((height, width), self.own, steps, strict=True)]
        for _ in range(8):  # where an image is smaller than a window, a larger one is padded
            if self._fits(wanted[0], wanted[1]):
                return wanted[0], wanted[1]
            wanted = [size + step for size, step in zip(wanted, steps, strict=True)]
        raise ArgumentError(f"model {self.network.name!r} cannot take images of {height}x{width}: {self.why}")

    def at(self, size: Size) -> _N:
        """The network at a size that fits; the last few are kept."""
        if size == self.own:
            return self.network
        if size in self._kept:
            self._kept.move_to_end(size)
            return self._kept[size]
        made = self.network.resized(*size)
        self._kept[size] = made
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return made

    @property
    def reach(self) -> Size | None:
        """How far from an output pixel input pixels matter to it, as multiples of the steps; None: everywhere."""
        if self._reach is None and self.steps is not None:
            lowered = self.network.lowered()
            fields = ReceptiveFields(lowered.graph.describe())
            far = []
            for axis, step in enumerate(self.steps):
                spans = [fields.of(lowered.values[id(t)], axis) for t in self.network.outputs]
                known = [span[1] for span in spans if span is not None]
                if len(known) < len(spans):
                    return None
                far.append(-(-(max(known) // 2 + step) // step) * step)
            self._reach = far[0], far[1]
        return self._reach
