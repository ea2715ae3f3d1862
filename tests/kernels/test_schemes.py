"""The bilinear schemes of the host kernel set and of v6 (kernels/common/schemes.h) are exact identities: in rational arithmetic.

The matrices are read from the header itself, so what is proved is what is compiled. docs/cpu.md derives them.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

HEADER = Path(__file__).resolve().parents[2] / "kernels/common/schemes.h"
Rows = list[list[Fraction]]


def fraction(text: str) -> Fraction:
    numerator, _, denominator = text.replace("f", "").replace(" ", "").partition("/")
    return Fraction(numerator) / (Fraction(denominator) if denominator else 1)


class Scheme:
    """One struct of schemes.h: y = A [(G g) * (B x)]."""

    def __init__(self, body: str, text: str) -> None:
        numbers = dict(re.findall(r"(k\w+) = (-?\d+)", body))
        self.up, self.inputs, self.step = int(numbers["kUp"]), int(numbers["kIn"]), int(numbers["kInStep"])
        self.taps, self.stride = int(numbers["kTaps"]), int(numbers["kStride"])
        self.products, self.outputs, self.borrow = int(numbers["kProducts"]), int(numbers["kOut"]), int(numbers["kBorrow"])
        self.b, self.g, self.a = (self._matrix(body, name, text) for name in "BGA")
        sources = re.findall(rf"kSource\[{self.products}\] = {{(.*?)}};", body)
        self.sources = [int(v) for v in sources[0].split(",")] if sources else list(range(self.products))
        assert sorted(set(self.sources)) == list(range(len(self.b))), "every row of B is some product's"

    @staticmethod
    def _matrix(body: str, name: str, file: str) -> Rows:
        if borrowed := re.search(rf"auto {name} = (\w+)::{name};", body):  # another scheme's
            body = re.findall(rf"struct {borrowed[1]} \{{(.*?)\n\}};", file, re.DOTALL)[0]
        shape, text = re.findall(rf"Matrix<(\d+, \d+)> {name} = {{(.*?)}};", body, re.DOTALL)[0]
        rows = [[fraction(item) for item in row.split(",")] for row in re.findall(r"{([^{}]+)}", text)]
        count, width = map(int, shape.split(","))
        assert len(rows) == count, f"{name} has {len(rows)} rows"
        assert {len(row) for row in rows} == {width}
        return rows

    def multiply(self, x: list[Fraction], g: list[Fraction]) -> list[Fraction]:
        """The products of the tile that begins at x[0], without A."""
        bx = [sum((c * v for c, v in zip(row, x[: self.inputs], strict=True)), Fraction()) for row in self.b]
        gg = [sum((c * v for c, v in zip(row, g, strict=True)), Fraction()) for row in self.g]
        return [bx[row] * q for row, q in zip(self.sources, gg, strict=True)]

    def tile(self, x: list[Fraction], g: list[Fraction]) -> list[Fraction]:
        """The tile's outputs; x also holds the patch of the next tile."""
        m = self.multiply(x, g)
        if self.borrow >= 0:
            m.append(self.multiply(x[self.step :], g)[self.borrow])
        return [sum((c * v for c, v in zip(row, m, strict=True)), Fraction()) for row in self.a]

    def plain(self, x: list[Fraction], g: list[Fraction]) -> list[Fraction]:
        """The definition: the correlation of x, or of its upsample, with the taps."""
        if self.up == 1:
            return [sum((g[k] * x[o + k] for k in range(self.taps)), Fraction()) for o in range(self.outputs)]
        # x[0] is the small pixel before the tile's first: output 0 is the first large pixel of small pixel 1.
        large = [x[i // self.up] for i in range(self.up * len(x))]
        return [sum((g[k] * large[self.up + o + k - 1] for k in range(3)), Fraction()) for o in range(self.outputs)]


def schemes() -> dict[str, Scheme]:
    text = re.sub(r"//[^\n]*", "", HEADER.read_text())
    bodies = re.findall(r"struct (\w+) \{\s*static constexpr const char\* name = \"(\w+)\";(.*?)\n\};", text, re.DOTALL)
    return {name: Scheme(body, text) for _, name, body in bodies}


SCHEMES = schemes()


def unit(length: int, at: int) -> list[Fraction]:
    return [Fraction(int(i == at)) for i in range(length)]


def test_every_scheme_is_read() -> None:
    assert set(SCHEMES) == {"winograd4", "winograd2", "upsample9", "upsample25", "upsample81", "strided25", "strided36"}


@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.stride == 2])
def test_stride_two_splits_into_even_and_odd(name: str) -> None:
    """A correlation of stride two is the sum of those of the even and of the odd elements with every other tap."""
    s = SCHEMES[name]
    for kernel in range(1, 2 * s.taps + 1):
        length = 2 * (s.outputs + s.taps)
        for i, k in product(range(length), range(kernel)):
            x, g = unit(length, i), unit(2 * s.taps, k)
            split = [s.tile(x[phase::2], g[phase::2]) for phase in (0, 1)]
            plain = [sum((g[t] * x[2 * o + t] for t in range(kernel)), Fraction()) for o in range(s.outputs)]
            assert [a + b for a, b in zip(*split, strict=True)] == plain


@pytest.mark.parametrize("name", SCHEMES)
def test_scheme_is_an_exact_identity(name: str) -> None:
    """Both sides are linear in x and in g, so equality on all pairs of unit vectors is equality everywhere."""
    s = SCHEMES[name]
    length = s.inputs + s.step
    for i, k in product(range(length), range(s.taps)):
        x, g = unit(length, i), unit(s.taps, k)
        assert s.tile(x, g) == s.plain(x, g), f"{name}: wrong for x[{i}], g[{k}]"


@pytest.mark.parametrize("name", SCHEMES)
def test_a_changed_coefficient_breaks_the_identity(name: str) -> None:
    s = SCHEMES[name]
    length = s.inputs + s.step
    for matrix in (s.b, s.g, s.a):
        row = matrix[len(matrix) // 2]
        at = next(i for i, c in enumerate(row) if c)
        row[at] += Fraction(1, 1000)
        pairs = ((unit(length, i), unit(s.taps, k)) for i, k in product(range(length), range(s.taps)))
        assert any(s.tile(x, g) != s.plain(x, g) for x, g in pairs)
        row[at] -= Fraction(1, 1000)


@pytest.mark.parametrize(
    ("name", "products"),
    [
        ("winograd4", (36, 16)), ("winograd2", (16, 4)), ("upsample9", (9, 4)), ("upsample25", (25, 16)),
        ("upsample81", (81, 64)), ("strided25", (25, 16)), ("strided36", (36, 16)),
    ],
)  # fmt: skip
def test_products_per_output(name: str, products: tuple[int, int]) -> None:
    """In two dimensions: products of a tile, and outputs of a tile."""
    s = SCHEMES[name]
    assert (s.products**2, s.outputs**2) == products


@pytest.mark.parametrize("name", SCHEMES)
def test_coefficients_are_rounded_little(name: str) -> None:
    """Every coefficient is a float32 to within half a unit in the last place, and most are exact."""
    import numpy as np

    s = SCHEMES[name]
    for value in (c for matrix in (s.b, s.g, s.a) for row in matrix for c in row):
        assert abs(Fraction(float(np.float32(float(value)))) - value) <= abs(value) / 2**24
