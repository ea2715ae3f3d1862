"""Portraits of two people who do not exist, drawn by the program: faces to try a network on before there are real ones.

A head is an ellipsoid that narrows towards the chin. Every pixel of its outline is traced back to the point of the ellipsoid that
is seen there (orthographic, turned by yaw and pitch), and eyes, brows, nose, mouth and hair are functions of that point: they
turn with the head, and vanish behind its edge. Light comes from one side; the relief of nose, lips and cheeks bends the normal.
Lengths are in units of half the head's height, x to the right, y down, z towards the viewer.

Who somebody is (PEOPLE) never changes; pose, expression, gaze, light, clothes and background are drawn from the sample's numbers.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from warploom.ground.array_types import Array

Colour = tuple[float, float, float]  # RGB in [0, 1]

Window = tuple[slice, slice]  # rows and columns of a picture
_WHOLE: Window = (slice(None), slice(None))

_RADII = (0.76, 1.0, 0.86)  # of the head: across, up, towards the viewer
_EYES = 0.31, -0.07  # of the right one: x, y
_MOUTH = 0.5  # y


@dataclass(frozen=True)
class Person:
    """What makes somebody recognisable."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    jaw: float  # how much of the width is lost towards the chin
    brow: float  # thickness
    nose: float  # width
    mouth: float  # half its width
    lip: float  # thickness
    long_hair: bool
    beard: float  # darkness of the stubble


PEOPLE = {
    "src": Person(
        skin=(0.74, 0.52, 0.38), hair=(0.09, 0.06, 0.05), iris=(0.25, 0.14, 0.07), lips=(0.60, 0.33, 0.29),
        jaw=0.20, brow=0.055, nose=0.125, mouth=0.26, lip=0.055, long_hair=False, beard=0.38,
    ),
    "dst": Person(
        skin=(0.97, 0.80, 0.70), hair=(0.80, 0.50, 0.20), iris=(0.20, 0.45, 0.62), lips=(0.80, 0.24, 0.28),
        jaw=0.36, brow=0.028, nose=0.095, mouth=0.22, lip=0.075, long_hair=True, beard=0.0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What changes from one picture of a person to the next. Angles in radians."""

    yaw: float
    pitch: float
    roll: float
    shift: tuple[float, float]
    scale: float
    light: tuple[float, float]  # where it comes from: x, y
    smile: float  # -1 to 1
    opening: float  # of the mouth, 0 to 1
    lids: float  # how open the eyes are, 0.15 to 1
    raised: float  # the brows, -1 to 1
    gaze: tuple[float, float]
    clothes: Colour
    background: tuple[Colour, Colour]

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Look":
        def colour(low: float, high: float) -> Colour:
            r, g, b = rng.uniform(low, high) + rng.uniform(-0.15, 0.15, 3)
            return float(r), float(g), float(b)

        def between(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        return cls(
            yaw=between(-0.5, 0.5), pitch=between(-0.22, 0.22), roll=between(-0.12, 0.12),
            shift=(between(-0.06, 0.06), between(-0.05, 0.05)), scale=between(0.94, 1.06),
            light=(between(-0.8, 0.8), between(-0.7, 0.0)),
            smile=between(-0.5, 1.0), opening=max(0.0, between(-0.7, 1.0)),
            lids=1.0 if rng.random() < 0.8 else between(0.15, 0.8), raised=between(-0.7, 1.0),
            gaze=(between(-1.0, 1.0), between(-0.6, 0.6)),
            clothes=colour(0.2, 0.6), background=(colour(0.3, 0.8), colour(0.3, 0.8)),
        )  # fmt: skip


class _Canvas:
    """RGB on [H, W, 3], painted over with soft edges."""

    def __init__(self, height: int, width: int, look: Look) -> None:
        self.side = 0.40 * min(height, width) * look.scale  # pixels in a unit of length
        self.pixel = 1.0 / self.side
        self.centre = (0.53 + 0.5 * look.shift[1]) * height - 0.5, (0.5 + 0.5 * look.shift[0]) * width - 0.5
        self.turn = math.cos(look.roll), math.sin(look.roll)
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        y, x = (y - self.centre[0]) / self.side, (x - self.centre[1]) / self.side
        c, s = self.turn
        self.x, self.y = c * x + s * y, c * y - s * x
        t = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
        top, bottom = (np.array(v, np.float32) for v in look.background)
        self.rgb = np.broadcast_to((1 - t) * top + t * bottom, (height, width, 3)).copy()

    def around(self, x: float, y: float, radius: float) -> Window:
        """Rows and columns of a square around a point, cut at the borders."""
        c, s = self.turn
        places = self.centre[0] + self.side * (s * x + c * y), self.centre[1] + self.side * (c * x - s * y)
        reach = self.side * radius + 1
        ends = [
            (min(max(0, int(p - reach)), n), min(max(0, int(p + reach) + 2), n))
            for p, n in zip(places, self.x.shape, strict=True)
        ]
        return slice(*ends[0]), slice(*ends[1])

    def inside(self, distance: Array, soft: float = 0.0) -> Array:
        """Coverage of where a signed distance is negative; `soft`: width of the edge, at least a pixel."""
        covered: Array = np.clip(0.5 - distance / max(self.pixel, soft), 0.0, 1.0)
        return covered

    def paint(self, coverage: Array, colour: Colour, shade: Array | float = 1.0, window: Window = _WHOLE) -> None:
        own = np.array(colour, np.float32) * (shade[..., None] if isinstance(shade, np.ndarray) else shade)
        part = self.rgb[window]
        part += coverage[..., None] * (own - part)

    def pixels(self) -> Array:
        rounded: Array = np.rint(255.0 * np.clip(self.rgb, 0.0, 1.0)).astype(np.uint8)
        return rounded


def _ellipse(x: Array, y: Array, a: float, b: float) -> Array:
    """About the signed distance from an ellipse around the origin."""
    result: Array = (np.hypot(x / a, y / b) - 1) * min(a, b)
    return result


@dataclass
class _Patch:
    """The part of the head around one of its features: coordinates relative to the feature, and what is painted on."""

    window: Window
    x: Array
    y: Array
    on: Array  # how much of a pixel shows the front of the head

    def bump(self, a: float, b: float) -> tuple[Array, Array, Array]:
        """A Gaussian hill on the face: height, and its slopes across and down."""
        dx, dy = self.x / a, self.y / b
        h = np.exp(-0.5 * (dx**2 + dy**2)) * self.on
        return h, -h * dx, -h * dy


class _Head:
    """The points (x, y, z) of the head seen at every pixel, in its own coordinates, the normals there, and the outline."""

    def __init__(self, canvas: _Canvas, person: Person, look: Look) -> None:
        cy, sy, cp, sp = (f(a) for a in (look.yaw, look.pitch) for f in (math.cos, math.sin))
        turn = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        self._canvas, self._turn, self._jaw = canvas, turn, person.jaw
        m = (turn @ np.diag([1 / r**2 for r in _RADII]) @ turn.T).tolist()
        x, y = canvas.x / self._narrow(canvas.y), canvas.y
        half = m[0][2] * x + m[1][2] * y
        inside = half**2 - m[2][2] * (m[0][0] * x**2 + 2 * m[0][1] * x * y + m[1][1] * y**2 - 1)  # discriminant of z
        self.distance = inside / (-2.0 * _RADII[2] * m[2][2])  # about one unit a unit at the edge
        z = (np.sqrt(np.maximum(inside, 0)) - half) / m[2][2]
        t = turn.tolist()
        self.x, self.y, self.z = (t[0][i] * x + t[1][i] * y + t[2][i] * z for i in range(3))
        self.normal = [m[i][0] * x + m[i][1] * y + m[i][2] * z for i in range(3)]
        length = np.sqrt(np.maximum(sum(n**2 for n in self.normal), 1e-6))
        self.normal = [n / length for n in self.normal]
        self.covered = canvas.inside(self.distance)
        self.on = self.covered * np.clip(self.z * 4, 0.0, 1.0)  # nothing of the face is painted on the back
        self.nose_shift = 0.15 * sy  # the tip stands out of the ellipsoid and is seen further to the side

    def _narrow(self, y: Any) -> Any:
        return 1 - self._jaw * np.clip((y + 0.1) / 1.1, 0.0, 1.0) ** 2

    def patch(self, x: float, y: float, radius: float) -> _Patch:
        """What is within `radius` of the point (x, y) of the face."""
        a, b, c = _RADII
        point = self._turn @ np.array([x, y, c * math.sqrt(max(0.0, 1 - (x / a) ** 2 - (y / b) ** 2))])
        window = self._canvas.around(float(point[0] * self._narrow(point[1])), float(point[1]), radius)
        return _Patch(window, self.x[window] - x, self.y[window] - y, self.on[window])


def portrait(person: Person, look: Look, height: int, width: int) -> tuple[Array, Array]:
    """A picture [H, W, 3] and the mask [H, W] of the face (255) in it, both uint8."""
    canvas = _Canvas(height, width, look)
    head = _Head(canvas, person, look)
    _behind(canvas, person, look)
    shade = _shade(head, person, look)
    canvas.paint(head.covered, person.skin, shade)
    _skin(canvas, head, person)
    _nose(canvas, head, person)
    _mouth(canvas, head, person, look)
    for side in (-1, 1):
        _eye(canvas, head, person, look, side)
    hairline = _hair(canvas, head, person, shade)
    face = head.covered * canvas.inside(hairline, 0.05)
    return canvas.pixels(), np.rint(255.0 * np.clip(face, 0, 1)).astype(np.uint8)


def _behind(canvas: _Canvas, person: Person, look: Look) -> None:
    """Hair behind the head, neck, shoulders and ears."""
    x, y = canvas.x, canvas.y
    back = x + 0.12 * math.sin(look.yaw)
    if person.long_hair:
        outline = np.where(y < 0, _ellipse(back, y, 0.97, 1.13), np.abs(back) - 0.97 - 0.1 * np.clip(y, 0, 1.2))
        canvas.paint(canvas.inside(outline, 0.03), person.hair, 0.72 + 0.12 * np.sin(x * 34 + 2 * np.sin(y * 3)))
    else:
        canvas.paint(canvas.inside(_ellipse(back, y + 0.12, 0.83, 1.0)), person.hair, 0.9)
    neck = np.maximum(np.abs(x + 0.06 * math.sin(look.yaw)) - 0.33 - 0.12 * np.maximum(y - 1.0, 0), -y)
    canvas.paint(canvas.inside(neck), person.skin, 0.62)
    canvas.paint(canvas.inside(_ellipse(x, y - 1.75, 1.35, 0.62)), look.clothes, 0.8 + 0.2 * np.clip(1 - np.abs(x), 0, 1))
    for side in (-1, 1) if not person.long_hair else ():
        away = side * 0.75 * math.cos(look.yaw) - 0.35 * math.sin(look.yaw)
        window = canvas.around(away, -0.02, 0.25)
        ear = _ellipse(x[window] - away, y[window] + 0.02, 0.11, 0.2)
        canvas.paint(canvas.inside(ear), person.skin, 0.82 - 0.3 * canvas.inside(ear + 0.05, 0.05), window)


def _shade(head: _Head, person: Person, look: Look) -> Array:
    """How bright the skin is, from the normals and the relief."""
    length = math.hypot(*look.light, 1.0)
    lx, ly, lz = look.light[0] / length, look.light[1] / length, 1.0 / length
    result: Array = 0.5 + 0.52 * np.maximum(head.normal[0] * lx + head.normal[1] * ly + head.normal[2] * lz, 0)
    shift, n = head.nose_shift, person.nose
    hills = [  # x, y, width, height, strength
        (0.5 * shift, 0.02, 0.45 * n, 0.2, 0.20), (shift, 0.24, 0.9 * n, 0.085, 0.34), (0.0, -0.3, 0.4, 0.09, 0.08),
        (-0.4, 0.2, 0.17, 0.16, 0.10), (0.4, 0.2, 0.17, 0.16, 0.10), (0.0, 0.83, 0.17, 0.12, 0.14), (0.0, _MOUTH, 0.2, 0.1, 0.08),
    ]  # fmt: skip
    for x0, y0, a, b, strength in hills:
        patch = head.patch(x0, y0, 3.5 * max(a, b))
        _, across, down = patch.bump(a, b)
        result[patch.window] -= 0.9 * strength * (across * lx + down * ly)
    tones = [  # deep sockets, shadows under nose and lower lip, a light on the tip of the nose
        (-_EYES[0], _EYES[1] - 0.05, 0.16, 0.09, -0.13), (_EYES[0], _EYES[1] - 0.05, 0.16, 0.09, -0.13),
        (shift, 0.36, 1.2 * n, 0.035, -0.22), (0.0, _MOUTH + 0.17, 0.16, 0.04, -0.10), (shift, 0.22, 0.4 * n, 0.04, 0.12),
    ]  # fmt: skip
    for x0, y0, a, b, strength in tones:
        patch = head.patch(x0, y0, 3.5 * max(a, b))
        result[patch.window] += strength * patch.bump(a, b)[0]
    return result


def _skin(canvas: _Canvas, head: _Head, person: Person) -> None:
    """Red cheeks, and stubble on jaw, chin and upper lip."""
    for side in (-1, 1):
        patch = head.patch(side * 0.42, 0.25, 0.6)
        canvas.paint(0.22 * patch.bump(0.17, 0.13)[0], person.lips, 1.0, patch.window)
    if person.beard:
        edge = 0.62 - 0.5 * np.clip((np.abs(head.x) - 0.22) / 0.5, 0, 1)  # from the chin up to the ears
        jaw = np.clip(0.5 + (head.y - edge) / 0.16, 0, 1)
        lip = np.exp(-(((head.y - 0.42) / 0.05) ** 2) - (head.x / 0.27) ** 4)
        canvas.paint(person.beard * head.on * np.maximum(jaw, lip), person.hair)


def _nose(canvas: _Canvas, head: _Head, person: Person) -> None:
    for side in (-1, 1):
        patch = head.patch(head.nose_shift * 0.8 + side * person.nose * 0.5, 0.325, 0.08)
        hole = canvas.inside(_ellipse(patch.x, patch.y, 0.035, 0.02), 0.025)
        canvas.paint(0.6 * patch.on * hole, (0.16, 0.08, 0.06), 1.0, patch.window)


def _mouth(canvas: _Canvas, head: _Head, person: Person, look: Look) -> None:
    patch = head.patch(0.0, _MOUTH, 0.42)
    y, half = patch.y, person.mouth * (1 + 0.16 * max(look.smile, 0.0) - 0.12 * look.opening)
    t = patch.x / half
    bow, bend = np.clip(1 - t**2, 0.0, None), 0.075 * look.smile
    line = bend * (0.4 - np.minimum(t**2, 1.5))
    gap = 0.13 * look.opening * bow
    upper = line - 0.8 * person.lip * bow * (1 - 0.28 * np.exp(-((t / 0.16) ** 2)))
    lower = line + gap + person.lip * bow
    ends = (np.abs(t) - 1) * half
    lips = np.maximum(np.maximum(upper - y, y - lower), ends)
    bright = 0.82 + 0.28 * np.clip((y - line) / person.lip, 0, 1)
    canvas.paint(patch.on * canvas.inside(lips, 0.018), person.lips, bright, patch.window)
    inside = np.maximum(np.maximum(line - y, y - line - gap), ends)
    canvas.paint(patch.on * canvas.inside(inside - 0.004, 0.012), (0.22, 0.06, 0.07), 1.0, patch.window)
    if look.opening > 0.15:
        teeth = np.maximum(inside, y - line - 0.06)
        canvas.paint(patch.on * canvas.inside(teeth + 0.012, 0.012), (0.95, 0.93, 0.88), 1.0, patch.window)


def _eye(canvas: _Canvas, head: _Head, person: Person, look: Look, side: int) -> None:
    patch = head.patch(side * _EYES[0], _EYES[1], 0.36)
    x, y, on, window = patch.x, patch.y, patch.on, patch.window
    t = x / 0.145
    bow = np.clip(1 - t**2, 0.0, None)
    upper, lower = -0.085 * look.lids * bow, 0.045 * bow
    eye = np.maximum(np.maximum(upper - y, y - lower), (np.abs(t) - 1) * 0.145)
    white = on * canvas.inside(eye, 0.012)
    canvas.paint(white, (0.95, 0.94, 0.92), np.clip(0.72 + (y - upper) * 5, 0.72, 1.0), window)
    gx, gy = x - 0.05 * look.gaze[0], y - 0.02 * look.gaze[1] + 0.015
    r = np.hypot(gx, gy)
    canvas.paint(white * canvas.inside(r - 0.068, 0.012), person.iris, np.clip(0.6 + r * 9, 0.6, 1.25), window)
    canvas.paint(white * canvas.inside(r - 0.03, 0.01), (0.03, 0.03, 0.03), 1.0, window)
    canvas.paint(white * canvas.inside(np.hypot(gx + 0.025, gy + 0.028) - 0.014, 0.01), (1.0, 1.0, 1.0), 1.0, window)
    lashes = np.maximum(np.abs(y - upper) - (0.022 if person.long_hair else 0.012), np.abs(t) - 1)
    canvas.paint(0.85 * on * canvas.inside(lashes, 0.012), person.hair, 0.5, window)
    fold = np.maximum(np.abs(y - upper + 0.045) - 0.006, np.abs(t) - 0.85)
    canvas.paint(0.3 * on * canvas.inside(fold, 0.02), person.skin, 0.45, window)
    s = side * x / 0.19  # from the nose outwards
    arch = -0.205 - 0.045 * look.raised + 0.05 * (s - 0.15) ** 2 + 0.02 * s
    thick = person.brow * np.clip(1.1 - 0.45 * (s + 1), 0.2, 1.0)
    brow = np.maximum(np.abs(y - arch) - thick, (np.abs(s) - 1) * 0.19)
    canvas.paint(0.88 * on * canvas.inside(brow, 0.025), person.hair, 0.85, window)


def _hair(canvas: _Canvas, head: _Head, person: Person, shade: Array) -> Array:
    """Paints the hair on the head; the signed distance from it, positive inside."""
    x, y = head.x, head.y
    if person.long_hair:  # parted, falling down both sides
        part = np.abs(x + 0.12)
        line = -0.66 + 0.95 * np.clip(part - 0.1, 0, None) ** 2 + 2.2 * np.clip(part - 0.5, 0, None)
        strands = 0.86 + 0.14 * np.sin(part * 60 + 3 * np.sin(y * 5)) + 0.10 * np.sin(part * 23)
        inside = np.where(head.z < 0.05, 1.0, line - y)
    else:  # short, with corners at the temples and side burns
        line = -0.52 - 0.10 * np.cos(np.clip(x, -0.35, 0.35) * 9) + 9.0 * np.clip(np.abs(x) - 0.45, 0, None) ** 2
        strands = 0.95 + 0.22 * np.sin(x * 40 + 4 * np.sin(y * 9)) * np.sin(y * 31)
        burns = np.minimum(line, 0.12) - y
        inside = np.where(head.z < 0.05, np.maximum(burns, 0.3 - y), burns)
    glow = 0.25 * np.exp(-(((y + 0.8) / 0.12) ** 2))
    canvas.paint(head.covered * canvas.inside(-inside, 0.03), person.hair, strands * (0.45 + 0.55 * shade) + glow)
    return inside
