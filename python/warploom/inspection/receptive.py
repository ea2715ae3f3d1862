"""Receptive fields, exactly: how many input pixels can reach one output value.

Borders are ignored (an unbounded image). After an upsampling the number depends on the position: a 3x3 window on a map that was
enlarged by nearest neighbours covers two or three source pixels. So intervals are followed backwards from every position of a
period, and the smallest and the largest count are reported: 22-26 means that some positions see 22 rows of the image and others
26. Counted along the rows; the columns are the same unless a layer's window is not square.
"""

from fractions import Fraction
from typing import Any

Span = tuple[int, int]  # first and last index
_PERIOD_LIMIT = 64


def _axis(value: Any, axis: int, default: int) -> int:
    if value is None:
        return default
    return int(value[axis]) if isinstance(value, (list, tuple)) else int(value)


def _back(node: dict[str, Any], span: Span, axis: int) -> Span | None:
    """The input indices that a span of a node's output needs; None: all of them."""
    if node.get("global"):
        return None
    low, high = span
    if node.get("transposed"):  # output i sees input j where j * step - padding <= i < j * step - padding + kernel
        window, step, cut = (_axis(node[key], axis, 1) for key in ("kernel", "upsample", "padding"))
        return -((window - 1 - low - cut) // step), (high + cut) // step
    scale = _axis(node.get("upsample"), axis, 1)
    if scale > 1:
        if node.get("bilinear"):  # half-pixel centres: the two nearest source pixels, from floor((i + 1/2) / scale - 1/2) on
            return (2 * low + 1 - scale) // (2 * scale), (2 * high + 1 - scale) // (2 * scale) + 1
        return low // scale, high // scale
    kernel, stride = _axis(node.get("kernel"), axis, 1), _axis(node.get("stride"), axis, 1)
    first = _axis(node.get("padding"), axis, 0)
    return low * stride - first, high * stride - first + kernel - 1


class ReceptiveFields:
    """Asks the nodes of a graph's describe(): kernel, stride, padding, upsample, bilinear of each."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._nodes = description["nodes"]
        self._steps: dict[tuple[int, int], Fraction | None] = {}
        self._producer = {value: i for i, node in enumerate(self._nodes) for value in node["outputs"]}

    def period(self, value: int, axis: int) -> int:
        """Positions after which the pattern of spans repeats: the product of the upsampling factors on the way."""
        product, todo, seen = 1, [value], set()
        while todo:
            index = self._producer.get(todo.pop())
            if index is not None and index not in seen:
                seen.add(index)
                product *= _axis(self._nodes[index].get("upsample"), axis, 1)
                todo.extend(self._nodes[index]["inputs"])
        return min(product, _PERIOD_LIMIT)

    def of(self, value: int, axis: int = 0) -> Span | None:
        """(smallest, largest) count of input rows (axis 0) or columns (axis 1); None: the whole input."""
        counts = []
        for position in range(self.period(value, axis)):
            span = self._input_span(value, position, axis)
            if span is None:
                return None
            counts.append(span[1] - span[0] + 1)
        return min(counts), max(counts)

    def _input_span(self, value: int, position: int, axis: int) -> Span | None:
        spans: dict[int, Span] = {value: (position, position)}
        reached: Span | None = None

        def join(a: Span | None, b: Span) -> Span:
            return b if a is None else (min(a[0], b[0]), max(a[1], b[1]))

        for node in reversed(self._nodes):  # consumers before producers
            wanted = [spans[v] for v in node["outputs"] if v in spans]
            for span in wanted:
                needed = _back(node, span, axis)
                if needed is None:
                    return None
                for source in node["inputs"]:
                    spans[source] = join(spans.get(source), needed)
        for source, span in spans.items():
            if source not in self._producer:
                reached = join(reached, span)
        return reached

    def step(self, value: int, axis: int = 0) -> Fraction | None:
        """Input pixels between neighbouring values: the product of the strides over that of the enlargements; None: no such."""
        if (value, axis) not in self._steps:  # kept: in a network with skips many ways lead to a value
            self._steps[value, axis] = self._step(value, axis)
        return self._steps[value, axis]

    def _step(self, value: int, axis: int) -> Fraction | None:
        index = self._producer.get(value)
        if index is None:
            return Fraction(1)
        node = self._nodes[index]
        before = [self.step(v, axis) for v in node["inputs"]]
        known = [step for step in before if step is not None]
        if node.get("global") or len(known) < len(before):
            return None
        return Fraction(_axis(node.get("stride"), axis, 1), _axis(node.get("upsample"), axis, 1)) * max(known)
