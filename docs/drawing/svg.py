"""A canvas that writes SVG and refuses a drawing whose text is cut off, does not fit its box, or runs into other text.

Widths are those of DejaVu Sans, which is wider than what most browsers take for `sans-serif`: what fits here fits there. Every
drawing stands on a light card of its own, so that it reads the same on a white and on a dark page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape

INK, SOFT, FAINT, CARD, EDGE = "#1c2330", "#566070", "#c9ced6", "#fbfbfa", "#d4d7dc"
# Fills with enough contrast for INK; the strong ones are for what a drawing is about.
BLUE, ORANGE, GREEN, PURPLE, RED, YELLOW, GREY = "#c7ddf5", "#fbd9ad", "#c5e6c3", "#dfd0f0", "#f6c6c3", "#f7ecaf", "#e8eaee"
STRONG_BLUE, STRONG_ORANGE, STRONG_GREEN, STRONG_RED, STRONG_PURPLE = "#2f6fb5", "#c76a00", "#2e8533", "#b8352c", "#7a4fb0"
FONT = "'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif"

# Advance widths of DejaVu Sans, in hundredths of the size, from the space to the tilde.
_WIDTHS = (
    "32 40 46 84 64 95 78 27 39 39 50 84 32 36 32 34 64 64 64 64 64 64 64 64 64 64 34 34 84 84 84 53 100 68 69 70 "
    "77 63 58 77 75 29 29 66 56 86 75 79 60 79 69 63 61 73 68 99 69 61 69 39 34 39 84 50 50 61 63 55 63 62 35 63 "
    "63 28 28 58 28 97 63 61 63 63 41 52 39 63 59 82 59 59 52 64 34 64 84"
)
WIDTHS = {chr(32 + i): int(w) / 100 for i, w in enumerate(_WIDTHS.split())}


class DrawingError(Exception):
    """What a reader could not read."""


def width_of(text: str, size: float, bold: bool = False) -> float:
    """Pixels that a line of text takes."""
    return sum(WIDTHS.get(c, 0.84) for c in text) * size * (1.14 if bold else 1.0)


@dataclass
class TextBox:
    """Where a line of text lies: left, top, right, bottom."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: TextBox) -> bool:
        return self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom


def number(v: float) -> str:
    return f"{v:.2f}".rstrip("0").rstrip(".")


@dataclass
class Drawing:
    """One picture. `says` is what it shows in one sentence, for those who cannot see it."""

    title: str
    says: str
    width: int
    height: int
    parts: list[str] = field(default_factory=list)
    texts: list[TextBox] = field(default_factory=list)

    def rect(
        self, x: float, y: float, w: float, h: float, fill: str = "none", stroke: str = INK, line: float = 1, **more: str
    ) -> None:
        extra = "".join(f' {k.replace("_", "-")}="{v}"' for k, v in more.items())
        self.parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(w)}" height="{number(h)}" fill="{fill}" stroke="{stroke}" '
            f'stroke-width="{number(line)}"{extra}/>'
        )

    def path(
        self, points: list[tuple[float, float]], stroke: str = INK, line: float = 1.2, dash: str = "", head: bool = False
    ) -> None:
        where = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        marker = f' marker-end="url(#{self.head(stroke)})"' if head else ""
        self.parts.append(
            f'<polyline points="{where}" fill="none" stroke="{stroke}" stroke-width="{number(line)}"{dashed}{marker}/>'
        )

    def arrow(self, *points: tuple[float, float], stroke: str = INK, line: float = 1.4, dash: str = "") -> None:
        self.path(list(points), stroke, line, dash, head=True)

    @staticmethod
    def head(stroke: str) -> str:
        return f"head{stroke.lstrip('#')}"

    def text(
        self, x: float, y: float, text: str, size: float = 13, anchor: str = "start", bold: bool = False, fill: str = INK
    ) -> TextBox:
        """One line whose baseline is at y; anchor: start, middle or end."""
        wide = width_of(text, size, bold)
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        place = TextBox(text, left, y - 0.76 * size, left + wide, y + 0.24 * size)
        if place.left < 4 or place.right > self.width - 4 or place.top < 2 or place.bottom > self.height - 2:
            raise DrawingError(f"{self.title}: '{text}' is cut off at the edge")
        for other in self.texts:
            if place.meets(other):
                raise DrawingError(f"{self.title}: '{text}' runs into '{other.text}'")
        self.texts.append(place)
        weight = ' font-weight="bold"' if bold else ""
        at = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(
            f'<text x="{number(x)}" y="{number(y)}" font-size="{number(size)}" fill="{fill}"{at}{weight}>{escape(text)}</text>'
        )
        return place

    def upright(self, x: float, y: float, text: str, size: float = 11, fill: str = INK) -> None:
        """One line that is read from bottom to top and ends at y; x is its baseline."""
        long = width_of(text, size)
        place = TextBox(text, x - 0.76 * size, y, x + 0.24 * size, y + long)
        if place.left < 2 or place.right > self.width - 2 or place.top < 2 or place.bottom > self.height - 4:
            raise DrawingError(f"{self.title}: '{text}' is cut off at the edge")
        for other in self.texts:
            if place.meets(other):
                raise DrawingError(f"{self.title}: '{text}' runs into '{other.text}'")
        self.texts.append(place)
        where = f"{number(x)} {number(y)}"
        self.parts.append(
            f'<text transform="translate({where}) rotate(-90)" font-size="{number(size)}" fill="{fill}" '
            f'text-anchor="end">{escape(text)}</text>'
        )

    def lines(self, x: float, y: float, texts: list[str], size: float = 13, gap: float = 1.4, **more: object) -> None:
        for i, text in enumerate(texts):
            self.text(x, y + i * gap * size, text, size, **more)  # type: ignore[arg-type]

    def box(self, x: float, y: float, w: float, h: float, texts: list[str], fill: str = GREY, size: float = 13) -> None:
        """A rounded box with lines of text in its middle; the first of several is bold."""
        self.rect(x, y, w, h, fill, rx="5")
        step = 1.35 * size
        top = y + h / 2 - step * (len(texts) - 1) / 2 + 0.35 * size
        for i, text in enumerate(texts):
            place = self.text(x + w / 2, top + i * step, text, size, "middle", i == 0 and len(texts) > 1)
            if place.left < x + 3 or place.right > x + w - 3 or place.top < y + 1 or place.bottom > y + h - 1:
                raise DrawingError(f"{self.title}: '{text}' does not fit its box")

    def grid(
        self, x: float, y: float, columns: int, rows: int, cell: float, fill: Callable[[int, int], str], stroke: str = EDGE,
        tall: float | None = None,
    ) -> None:  # fmt: skip
        """columns x rows cells; fill(column, row)."""
        high = cell if tall is None else tall
        fills = {(c, r): fill(c, r) for r in range(rows) for c in range(columns)}
        most = Counter(fills.values()).most_common(1)[0][0]
        self.rect(x, y, columns * cell, rows * high, most, stroke, 0.7)
        for (c, r), colour in fills.items():
            if colour != most:
                self.rect(x + c * cell, y + r * high, cell, high, colour, stroke, 0.7)
        lines = [f"M{number(x + c * cell)},{number(y)}v{number(rows * high)}" for c in range(1, columns)]
        lines += [f"M{number(x)},{number(y + r * high)}h{number(columns * cell)}" for r in range(1, rows)]
        self.parts.append(f'<path d="{"".join(lines)}" stroke="{stroke}" stroke-width="0.7" fill="none"/>')

    def bracket(self, x1: float, x2: float, y: float, text: str, size: float = 12, below: bool = True) -> None:
        """A horizontal measure from x1 to x2 with its text beneath (or above)."""
        tick = 5 if below else -5
        self.path([(x1, y), (x1, y + tick), (x2, y + tick), (x2, y)], SOFT, 1)
        self.text((x1 + x2) / 2, y + (tick + size + 3 if below else tick - 5), text, size, "middle", fill=SOFT)

    def heads(self) -> str:
        """The arrow heads that are used, one per colour."""
        colours = sorted({p.split("url(#head")[1].split(")")[0] for p in self.parts if "url(#head" in p})
        return "".join(
            f'<marker id="head{c}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0,0.5 L8,4 L0,7.5 z" fill="#{c}"/></marker>'
            for c in colours
        )

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" font-family="{FONT}" role="img">'
        )
        about = f"<title>{escape(self.title)}</title><desc>{escape(self.says)}</desc>"
        card = f'<rect x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="8" fill="{CARD}" stroke="{EDGE}"/>'
        defs = f"<defs>{self.heads()}</defs>"
        return "\n".join([head, about, defs, card, *self.parts, "</svg>", ""])
