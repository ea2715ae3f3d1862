"""Charts as inline SVG in the colours of the page, and what its script needs to answer the pointer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from warploom.report.markup import Content, Markup, el, json_text

WIDTH, HEIGHT = 480.0, 270.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 12.0, 34.0
_LOG_RANGE = 10.0  # values that span more than this are drawn on a logarithmic axis
_MOST_POINTS = 600  # of a line: more cannot be told apart


@dataclass(frozen=True)
class Line:
    """A named series; x and y of equal length, y finite. colour: a number of the page's palette."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dashed: bool = False


class Axis:
    """Values to places between `start` and `end`."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool = False, margin: float = 0.05) -> None:
        self.start, self.end, self.log = start, end, log
        low, high = (math.log10(min(values)), math.log10(max(values))) if log else (min(values), max(values))
        if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):  # one value only
            low, high = (low - abs(low) * 0.1, high + abs(high) * 0.1) if low else (0.0, 1.0)
        spare = (high - low) * margin
        self.low, self.high = low - spare, high + spare

    def place(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int = 5, *, whole: bool = False) -> list[float]:
        if self.log:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
                found = [step * 10.0**d for d in decades for step in steps]
                found = [v for v in found if self.low <= math.log10(v) <= self.high]
                if len(found) >= 3:
                    return found[:: max(1, math.ceil(len(found) / (count + 2)))]
            return found
        raw = (self.high - self.low) / count
        size = 10.0 ** math.floor(math.log10(raw))
        step = min((m * size for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
        step = max(1.0, round(step)) if whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Four digits, as short as they come."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.4g}"


def line_chart(
    lines: Sequence[Line], x_name: str, y_name: str, *, whole_x: bool = True, box: tuple[float, float] | None = None,
) -> Markup:  # fmt: skip
    """Lines over x with a legend; the pointer shows the values. box: the range of both axes, such as (0, 1) of a ROC curve."""
    lines = [_thinned(line) for line in lines if line.x]
    xs, ys = [v for line in lines for v in line.x], [v for line in lines for v in line.y]
    log = box is None and min(ys) > 0 and max(ys) / min(ys) > _LOG_RANGE
    x_axis = Axis(box or xs, _LEFT, WIDTH - _RIGHT, margin=0.0 if box else 0.02)
    y_axis = Axis(box or ys, HEIGHT - _BOTTOM, _TOP, log=log, margin=0.0 if box else 0.06)
    drawn: list[Content] = [_grid(x_axis, y_axis, whole_x)]
    points = []
    for line in lines:
        places = [(x_axis.place(x), y_axis.place(y)) for x, y in zip(line.x, line.y, strict=True)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        drawn.append(el("path", d=path, class_=f"line c{line.colour}{' dashed' * line.dashed}"))
        if len(places) <= 40:
            drawn += [el("circle", cx=x, cy=y, r=2.6, class_=f"dot c{line.colour}") for x, y in places]
        shown = [[round(x, 1), round(y, 1), number(a), number(b)] for (x, y), a, b in zip(places, line.x, line.y, strict=True)]
        points.append({"name": line.name, "colour": line.colour, "points": shown})
    drawn.append(el("g", class_="cursor"))
    label = f"{y_name} over {x_name}: " + "; ".join(f"{line.name} ends at {number(line.y[-1])}" for line in lines)
    chart = el(
        "svg", drawn, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", class_="chart", role="img", aria_label=label,
        data_lines=json_text({"x": x_name, "lines": points}),
    )  # fmt: skip
    keys = [el("span", el("i", class_=f"key c{line.colour}"), line.name) for line in lines] if len(lines) > 1 else []
    scale = " (logarithmic)" if log else ""
    return el("figure", el("figcaption", el("b", y_name), el("small", scale), el("span", keys, class_="keys")), chart)


def _thinned(line: Line) -> Line:
    step = math.ceil(len(line.x) / _MOST_POINTS)
    if step < 2:
        return line
    kept = sorted({*range(0, len(line.x), step), len(line.x) - 1})
    return Line(line.name, [line.x[i] for i in kept], [line.y[i] for i in kept], line.colour, line.dashed)


def _grid(x_axis: Axis, y_axis: Axis, whole_x: bool) -> Markup:
    parts = []
    for value in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(el("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(el("text", number(value), x=_LEFT - 7, y=y + 4, text_anchor="end"))
    for value in x_axis.ticks(6, whole=whole_x):
        x = x_axis.place(value)
        parts.append(el("text", number(value), x=x, y=HEIGHT - _BOTTOM + 18, text_anchor="middle"))
    bottom = HEIGHT - _BOTTOM
    parts.append(el("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=bottom, y2=bottom, class_="axis"))
    return el("g", parts)


def bars(counts: Sequence[int], edges: Sequence[float], x_name: str, y_name: str) -> Markup:
    """A histogram; edges has one more than counts."""
    x_axis = Axis(edges, _LEFT, WIDTH - _RIGHT, margin=0.0)
    y_axis = Axis([0, max(counts)], HEIGHT - _BOTTOM, _TOP, margin=0.0)
    drawn: list[Content] = [_grid(x_axis, y_axis, False)]
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        x, right, y = x_axis.place(low), x_axis.place(high), y_axis.place(count)
        tip = f"{number(low)} to {number(high)}: {count}"
        drawn.append(
            el("rect", x=x + 0.75, width=max(0.5, right - x - 1.5), y=y, height=y_axis.place(0) - y, class_="bar", data_tip=tip)
        )
    label = f"{y_name} by {x_name}, from {number(edges[0])} to {number(edges[-1])}"
    chart = el("svg", drawn, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", class_="chart", role="img", aria_label=label)
    return el("figure", el("figcaption", el("b", y_name), el("small", f" by {x_name}")), chart)


def scatter(points: Sequence[tuple[float, float]], groups: Sequence[int] | None, texts: Sequence[str], label: str) -> Markup:
    """Points with thumbnails: number i shows thumbnail i of the page's sheet and texts[i]. groups: their colours."""
    width, height, edge = 600.0, 420.0, 14.0
    x_axis = Axis([p[0] for p in points], edge, width - edge, margin=0.02)
    y_axis = Axis([p[1] for p in points], height - edge, edge, margin=0.02)
    dots = [
        el(
            "circle", cx=round(x_axis.place(x), 1), cy=round(y_axis.place(y), 1), r=5,
            class_=f"point c{(groups[i] if groups is not None else 0) % 10}", data_g=groups[i] if groups is not None else None,
        )
        for i, (x, y) in enumerate(points)
    ]  # fmt: skip
    return el(
        "svg", dots, el("circle", class_="ring", r=9, cx=-99, cy=-99), viewBox=f"0 0 {width:g} {height:g}",
        class_="chart scatter", role="img", aria_label=label, data_texts=json_text(list(texts)),
    )  # fmt: skip


def parts_bar(parts: Sequence[tuple[str, float, str]]) -> Markup:
    """Shares of a whole side by side, and what they are below: (name, size, size in words)."""
    total = sum(size for _, size, _ in parts) or 1.0
    pieces = [
        el("i", class_=f"fill c{i % 10}", style=f"flex-grow:{max(size / total, 0.002):.4f}", data_tip=f"{name}: {words}")
        for i, (name, size, words) in enumerate(parts)
        if size
    ]
    rows = [
        el("div", el("i", class_=f"key c{i % 10}"), el("span", name), el("b", words), el("small", f"{100 * size / total:.1f} %"))
        for i, (name, size, words) in enumerate(parts)
        if size
    ]
    return el("div", el("div", pieces, class_="parts"), el("div", rows, class_="legend"))
