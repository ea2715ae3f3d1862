"""SSIM in float64, straight from the definition: window by window, without separating the Gaussian."""

from typing import Any

import numpy as np

ENTRY = "ssim_loss"


def _case(name: str, shape: tuple[int, int, int, int], window: int, layout: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
    N, C, H, W = shape
    a = {"N": N, "C": C, "H": H, "W": W, "window": window, "sigma": 1.5, "c1": 1e-4, "c2": 9e-4, "layout": layout}
    return ENTRY, f"{name}_{layout}", a | {"samples": N, "weight": 1.0} | more


SHAPES = [
    ("pixel", (1, 1, 1, 1), 1, {}),
    ("one_position", (2, 3, 5, 5), 5, {}),
    ("even", (1, 3, 9, 13), 4, {}),
    ("row", (1, 2, 3, 40), 3, {}),
    ("column", (1, 2, 37, 3), 3, {}),
    ("eleven", (2, 3, 24, 29), 11, {}),
    ("twentytwo", (1, 3, 33, 31), 22, {"sigma": 3.0, "weight": 0.5}),
    ("channels", (1, 17, 12, 11), 7, {"sigma": 0.8}),
    ("wide", (1, 1, 13, 130), 11, {}),
    ("range255", (1, 3, 16, 16), 11, {"c1": 6.5025, "c2": 58.5225}),
    ("same", (1, 1, 14, 15), 5, {}),
    ("flat", (1, 3, 15, 14), 6, {}),
]
CASES = [_case(name, shape, window, layout, **more) for name, shape, window, more in SHAPES for layout in ("nchw", "nhwc")]
CASES += [
    _case("too_large", (1, 3, 8, 9), 9, "nchw", _refused="at most the image's height and width (8x9)"),
    _case("no_width", (1, 3, 8, 9), 3, "nchw", sigma=0.0, _refused="sigma must be positive"),
    _case("nothing", (0, 3, 8, 9), 3, "nhwc", _refused="must be positive"),
]


def inputs(entry: str, attributes: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    shape = tuple(attributes[k] for k in ("N", "C", "H", "W"))
    top = 255.0 if attributes["c1"] > 1.0 else 1.0
    target = top * rng.random(shape)
    prediction = np.clip(target + rng.normal(0.0, 0.2 * top, shape), 0.0, top)
    if shape[2:] == (14, 15):  # equal images: the loss is 0
        prediction = target.copy()
    if shape[2:] == (15, 14):  # nearly constant and bright: where a variance as a difference of squares drowns
        target = 0.93 + 1e-3 * target
        prediction = target + rng.normal(0.0, 1e-3, shape)
    order = (0, 1, 2, 3) if attributes["layout"] == "nchw" else (0, 2, 3, 1)
    as_stored = {k: np.ascontiguousarray(v.transpose(order)) for k, v in (("prediction", prediction), ("target", target))}
    return as_stored | {"total": np.array([5.0, 2.0])}


def gaussian(window: int, sigma: float) -> Any:
    x = np.arange(window) - (window - 1) / 2
    g = np.exp(-(x**2) / (2.0 * sigma**2))
    return np.outer(g, g) / g.sum() ** 2


def reference(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    N, C, H, W, k = (attributes[name] for name in ("N", "C", "H", "W", "window"))
    c1, c2, weight, samples = (attributes[name] for name in ("c1", "c2", "weight", "samples"))
    nchw = attributes["layout"] == "nchw"
    p, t = (inputs[n].reshape((N, C, H, W) if nchw else (N, H, W, C)) for n in ("prediction", "target"))
    if not nchw:
        p, t = p.transpose(0, 3, 1, 2), t.transpose(0, 3, 1, 2)
    g = gaussian(k, attributes["sigma"])
    windows = [np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3)) for x in (p, t)]
    mp, mt = ((x * g).sum((-2, -1)) for x in windows)
    dp, dt = windows[0] - mp[..., None, None], windows[1] - mt[..., None, None]
    sp, st, spt = ((g * x).sum((-2, -1)) for x in (dp * dp, dt * dt, dp * dt))
    a1, a2, b1, b2 = 2 * mp * mt + c1, 2 * spt + c2, mp**2 + mt**2 + c1, sp + st + c2
    ssim = a1 * a2 / (b1 * b2)
    by_mean = 2 * a2 / (b1 * b2) * (mt - mp * a1 / b1)
    by_covariance, by_variance = 2 * a1 / (b1 * b2), -ssim / b2
    slope = np.zeros(p.shape)
    for i in range(k):
        for j in range(k):
            per_window = by_mean + by_covariance * dt[..., i, j] + 2 * by_variance * dp[..., i, j]
            slope[:, :, i : i + H - k + 1, j : j + W - k + 1] += g[i, j] * per_window
    grad = -weight * slope / ssim.size
    loss = weight * (1.0 - ssim.mean())
    out = {"loss": np.array([loss]), "grad": np.ascontiguousarray(grad if nchw else grad.transpose(0, 2, 3, 1))}
    if "total" in inputs:
        out["total"] = inputs["total"] + np.array([loss * samples, samples])
    return out


def magnitude(entry: str, attributes: dict[str, Any], inputs: dict[str, Any]) -> dict[str, float]:
    """A window of one pixel has no variance, and between equal images all terms cancel: errors are then those of the terms."""
    N, C, H, W, k = (attributes[name] for name in ("N", "C", "H", "W", "window"))
    if k > 1 and (H, W) != (14, 15):
        return {}
    positions = N * C * (H - k + 1) * (W - k + 1)
    return {"grad": 0.05 * attributes["weight"] * 2.0 / attributes["c2"] / positions, "loss": 1e-3}


GRADIENTS = {
    ENTRY: lambda attributes, inputs: (
        lambda changed: float(reference(ENTRY, attributes, changed)["loss"][0]),
        {"grad": "prediction"},
    )
}
