"""Runs one case on one version of one device through _core.call and judges every output against the oracle.

    python tests/support/harness.py emulated:checked v3 conv_1x1x1x1_to1_k1x1_s1_p0 [entry] [fill]

is the line that a failing test prints. Whole-number inputs must give exactly the right result; random floats may be off by a
bound that grows with the length of the sum. A comparison is `not (error <= bound)`, so that a NaN fails. The harness is tested
itself, by results broken on purpose (test_harness.py).
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import oracle
from cases import Case, find
from numpy.typing import NDArray

Array = NDArray[Any]
Tensors = dict[str, Array]
Call = Callable[..., Tensors]
EPSILON = float(np.finfo(np.float32).eps)
ACTIVATIONS = {"x", "y", "dx", "dy", "index"}
WEIGHTS = {"w", "dw"}
TO_WEIGHT_LAYOUT = {"oihw": (0, 1, 2, 3), "ohwi": (0, 2, 3, 1), "hwio": (2, 3, 1, 0)}


@dataclass(frozen=True)
class Target:
    """A version on a device, with what its results may be judged by."""

    device: str
    version: str
    layout: str = "nchw"
    weight_layout: str = "oihw"
    exact: bool = True  # False: its algorithms reorder sums by algebra (Winograd), so whole numbers round too
    factor: float = 1.0  # widens the bound for floats
    inherits: str = ""  # the version whose float32 entries it takes over
    own: tuple[str, ...] = ()  # the entries that it does not take over
    falls_to: str = ""  # the version that computes what its own algorithms do not take
    local: bool = True  # False: a rounding error may come from a neighbouring pixel of the same tile
    reads_y: bool = False  # its gradients of a convolution read y where an activation is folded in

    def __str__(self) -> str:
        return f"{self.device}-{self.version}"


# What a version's algorithms promise; a version that is not named promises exactness.
PROMISES: dict[str, dict[str, Any]] = {
    "cpu": {"exact": False, "factor": 16.0, "local": False},
    "v6": {"exact": False, "factor": 16.0, "local": False, "falls_to": "v5"},
}


def targets(core: Any) -> list[Target]:
    """Every version on every usable device that can run it, in the order of the registry."""
    layouts = {v["name"]: v for v in core.versions()}
    found = []
    for library in core.libraries():
        if library["usable"] and library["kind"] != "emulated:counting":  # the same kernels as emulated: test_counters.py
            for name in library["versions"]:
                v = layouts[name]
                capabilities = {10 * d["compute_major"] + d["compute_minor"] for d in library["devices"]}
                if v["compute_capability"] and capabilities != {v["compute_capability"]}:
                    continue
                promises = {"inherits": v["float32_from"], "own": tuple(v["own"]), "reads_y": v["gradients_read_y"]}
                promises |= PROMISES.get(name, {})
                target = Target(library["kind"], name, v["layout"], v["weight_layout"], **promises)
                if target not in found:  # several libraries may serve one kind; the first usable one does
                    found.append(target)
    return found


def target(core: Any, device: str, version: str) -> Target | None:
    """One of them, in any process: an installation compiles the checked device when it is first asked for."""
    from warploom.ground import hardware

    hardware.prepare(device)
    return next((t for t in targets(core) if (t.device, t.version) == (device, version)), None)


class Mismatch(AssertionError):
    """A result is wrong; the text says where, and how to run the case again."""


# ---- Layouts ----


def to_version(name: str, array: Array, target: Target) -> Array:
    """A logical array (NCHW, PyTorch weight) as the flat array that _core.call takes."""
    if array.ndim == 4 and name in ACTIVATIONS and target.layout == "nhwc":
        array = array.transpose(0, 2, 3, 1)
    elif array.ndim == 4 and name in WEIGHTS:
        array = array.transpose(TO_WEIGHT_LAYOUT[target.weight_layout])
    return np.ascontiguousarray(array).reshape(-1)


def from_version(name: str, flat: Array, shape: tuple[int, ...], target: Target) -> Array:
    if flat.size != int(np.prod(shape)):
        raise Mismatch(f"output '{name}' has {flat.size} elements instead of {shape}")
    order = (0, 1, 2, 3)
    if len(shape) == 4 and name in ACTIVATIONS and target.layout == "nhwc":
        order = (0, 2, 3, 1)
    elif len(shape) == 4 and name in WEIGHTS:
        order = TO_WEIGHT_LAYOUT[target.weight_layout]
    if len(shape) != 4:
        return flat.reshape(shape)
    return flat.reshape([shape[i] for i in order]).transpose(np.argsort(order))


# ---- Maps in 16 bits ----

HALVES = {"bf16": "bf16", "f16": "fp16"}  # by the name of the precision that rounds so
HALF_UNIT = {"bf16": 2.0**-8, "f16": 2.0**-11}  # half a unit in the last place, of a number's magnitude
SMALLEST = {"bf16": 0.0, "f16": 2.0**-25}  # below f16's normal range it is the same for all


def storage(case: Case) -> dict[str, str]:
    """The tensors that the case stores in 16 bits, and how. Gradients are never f16 (gradient_type() in kernels/args.h)."""
    a = case.attributes
    if case.family == "conv2d":
        types = {"x": a.get("x_type", "f32"), "y": a.get("y_type", "f32")}
    else:
        types = dict.fromkeys(("x", "y", *(("a", "b") if case.family == "add" else ())), a.get("type", "f32"))
    gradients = {f"d{name}": "f32" if dtype == "f16" else dtype for name, dtype in types.items() if name in ("x", "y")}
    return {name: dtype for name, dtype in (types | gradients).items() if dtype in HALVES}


def encode(flat: Array, dtype: str) -> Array:
    """The bits of numbers that are exact in 16 bits."""
    if dtype == "f16":
        return flat.astype(np.float16).view(np.uint16)
    return (flat.view(np.uint32) >> 16).astype(np.uint16)


def decode(flat: Array, dtype: str) -> Array:
    if dtype == "f16":
        return flat.view(np.float16).astype(np.float32)
    return (flat.astype(np.uint32) << 16).view(np.float32)


# ---- Inputs ----


@lru_cache(maxsize=4)
def make_inputs(case: Case, fill: str) -> Tensors:
    """Everything any entry of the case reads, as logical arrays. fill: integers (small whole numbers) or floats."""
    inputs = _draw_inputs(case, fill)
    for name, dtype in storage(case).items():  # the oracle sees what is stored
        if name in inputs:
            inputs[name] = oracle.rounded(inputs[name], HALVES[dtype]).astype(np.float32)
    for array in inputs.values():
        array.flags.writeable = False  # shared by all versions and devices
    return inputs


def _draw_inputs(case: Case, fill: str) -> Tensors:
    a, rng = case.attributes, np.random.default_rng(zlib.crc32(f"{case.name}/{fill}".encode()))

    def draw(*shape: int) -> Array:
        if fill == "integers":
            return rng.integers(-3, 4, shape, dtype=np.int8).astype(np.float32)
        return rng.standard_normal(shape, dtype=np.float32)

    if case.family == "conv2d":
        up, down = a["upsample"], a["pool"]
        x = draw(a["N"], a["C_in"], a["H"] // up, a["W"] // up)
        t = {"x": oracle.activation(x, a.get("x_activation", "none"), a.get("x_slope", 0.0)).astype(np.float32)}
        t["w"] = draw(a["C_out"], a["C_in"] // a["groups"], a["KH"], a["KW"])
        return t | {"bias": draw(a["C_out"]), "dy": draw(a["N"], a["C_out"], a["OH"] // down, a["OW"] // down)}
    if case.family == "max_pool2d":
        x = draw(a["N"], a["C"], a["H"], a["W"])
        _, index = oracle.max_pool2d(x, (a["KH"], a["KW"]), (a["stride_h"], a["stride_w"]))
        return {"x": x, "dy": draw(a["N"], a["C"], a["OH"], a["OW"]), "index": index}
    if case.family == "upsample":
        shape = (a["N"], a["C"], a["H"], a["W"])
        return {"x": draw(*shape), "dy": draw(*shape[:2], shape[2] * a["scale_h"], shape[3] * a["scale_w"])}
    if case.family == "activation":
        x = draw(a["count"])
        return {"x": x, "dy": draw(a["count"]), "y": oracle.activation(x, a["kind"], a["negative_slope"]).astype(np.float32)}
    if case.family == "mse_loss":
        return {"prediction": draw(a["count"]), "target": draw(a["count"]), "total": np.array([5.0, 2.0])}
    if case.family == "sgd_update":
        hyper = np.array([0.5, 0.25, 0.125] if fill == "integers" else [0.01, 0.9, 5e-4], np.float32)
        scale = np.array([0.5 if fill == "integers" else 0.3], np.float32)
        return {"hyper": hyper, "scale": scale} | {name: draw(a["count"]) for name in ("g", "w", "velocity")}
    if case.family == "add":
        return {"a": draw(a["count"]), "b": draw(a["count"])}
    if case.family == "layout_convert":
        return {"x": draw(a["N"] * a["C"] * a["H"] * a["W"])}
    if case.family == "gather_images":
        images = rng.integers(0, 256, a["images_count"] * a["C"] * a["H"] * a["W"], dtype=np.uint8)
        order = rng.integers(0, a["images_count"], a["rows"], dtype=np.int32)
        cursor = np.array([rng.integers(0, a["rows"] - a["N"] + 1)], np.int32)
        return {"images": images if a["dtype"] == "u8" else images.astype(np.float32), "order": order, "cursor": cursor}
    return {"cursor": np.array([17], np.int32)}


# Which tensors an entry is given and which outputs it must fill; the combinations of optional ones that matter, each run once.
# "y*" and "saved*": from the forward entry, where the version reads or keeps something.
VARIANTS: dict[str, tuple[tuple[str, str], ...]] = {
    "conv2d_forward": (("x w bias", "y"), ("x w", "y")),
    "conv2d_backward_input": (("dy w y* saved*", "dx"),),
    "conv2d_backward_weight": (("dy x y* saved*", "dw"),),
    "conv2d_backward_bias": (("dy y* saved*", "db"),),
    "conv2d_backward": (("dy x w y* saved*", "dx dw db"), ("dy x w y* saved*", "dw")),
    "max_pool2d_forward": (("x", "y index"), ("x", "y")),
    "max_pool2d_backward": (("dy index", "dx"),),
    "upsample_forward": (("x", "y"),),
    "upsample_backward": (("dy", "dx"),),
    "activation_forward": (("x", "y"),),
    "activation_backward": (("dy y", "dx"),),
    "mse_loss": (("prediction target total", "grad loss"), ("prediction target", "loss")),
    "sgd_update": (("hyper g w velocity", ""), ("hyper g w", ""), ("hyper scale g w velocity", "")),
    "add": (("a b", "y"),),
    "layout_convert": (("x", "y"),),
    "gather_images": (("images order cursor", "x"),),
    "advance_cursor": (("cursor", ""),),
}


def variants(case: Case, entry: str) -> tuple[tuple[str, str], ...]:
    if entry == "activation_backward" and oracle.ACTIVATIONS[case.attributes["kind"]].from_input:
        return (("dy x", "dx"),)
    if entry == "conv2d_backward_input" and case.attributes.get("x_activation", "none") != "none":
        return (("dy w y* saved* x", "dx"),)
    if entry == "conv2d_backward_weight" and case.attributes.get("with_db"):
        return (("dy x y* saved*", "dw db"),)
    return VARIANTS[entry]


# ---- What is right, and how far a result may be off ----


def is_exact(case: Case, fill: str) -> bool:
    """Whether whole-number inputs give whole-number (or short binary) results all the way."""
    a = case.attributes
    power_of_two = all(s & (s - 1) == 0 for s in (a.get("scale_h", 1), a.get("scale_w", 1)))
    if case.family in ("layout_convert", "advance_cursor"):
        return True
    if case.family == "max_pool2d":  # windows that overlap add up gradients
        return fill == "integers" or (a["stride_h"] >= a["KH"] and a["stride_w"] >= a["KW"])
    if case.family == "gather_images":
        return a["dtype"] == "f32"
    return (
        fill == "integers"
        and case.family != "mse_loss"
        and oracle.ACTIVATIONS[a.get("activation", a.get("kind", "none"))].exact
        and (a.get("mode") != "bilinear" or power_of_two)
        and (a.get("negative_slope", 0.0) * 1024) % 1 == 0
    )


def bounds(case: Case, entry: str, t: Tensors) -> dict[str, tuple[Array, int]]:
    """Per output: the sum of the absolute values of the terms behind each element, and the number of terms."""
    a, magnitude = case.attributes, {k: np.abs(v).astype(np.float64) if v.dtype.kind == "f" else v for k, v in t.items()}
    if case.family == "conv2d":
        plain = a | {"activation": "none"}
        per_group = {"in": a["C_in"] // a["groups"], "out": a["C_out"] // a["groups"]}
        if entry == "conv2d_forward":
            y = oracle.fused_conv2d(plain, magnitude["x"], magnitude["w"], magnitude.get("bias"))["y"]
            return {"y": (y, per_group["in"] * a["KH"] * a["KW"] + 1)}
        # An activation's slope is at most 1; the gradient that passes a pool goes where the true maximum is.
        forward = oracle.fused_conv2d(a, t["x"].astype(float), t["w"].astype(float), t.get("bias"))
        dy = magnitude["dy"]
        if forward["index"] is not None:
            dy = oracle.max_pool2d_backward(dy, forward["index"], forward["active"].shape)
        dx, dw, db = oracle.conv2d_backward(dy, np.abs(forward["x"]), magnitude["w"], **oracle.conv_arguments(a))
        if a["upsample"] > 1:
            dx = oracle.upsample_backward(dx, (a["upsample"],) * 2)
        pixels = a["N"] * a["OH"] * a["OW"]
        return {
            "dx": (dx, per_group["out"] * a["KH"] * a["KW"] * a["upsample"] ** 2),
            "dw": (dw, pixels),
            "db": (db, pixels),
        }
    length = {"mse_loss": 16, "max_pool2d": a.get("KH", 1) * a.get("KW", 1), "upsample": 4}.get(case.family, 8)
    if case.family == "upsample" and entry == "upsample_backward":
        length = 4 * a["scale_h"] * a["scale_w"]
    if case.family == "max_pool2d" and entry == "max_pool2d_forward":
        return {name: (np.abs(v), 1) for name, v in oracle.compute(entry, a, t).items()}
    if case.family == "mse_loss":
        squares = (magnitude["prediction"] + magnitude["target"]) * (2 * a["weight"] / a["count"])
        loss = np.abs(oracle.compute(entry, a, t)["loss"])
        return {"grad": (squares, length), "loss": (loss, length), "total": (5.0 + a["samples"] * (1 + loss.repeat(2)), length)}
    if case.family == "sgd_update":
        size = magnitude["w"] + magnitude["g"] + magnitude.get("velocity", 0.0)
        return {"w": (size, length), "velocity": (size, length)}
    if case.family == "activation":
        name = "y" if entry == "activation_forward" else "dx"
        size = magnitude["x" if name == "y" else "dy"] + (not oracle.ACTIVATIONS[a["kind"]].exact)
        if oracle.ACTIVATIONS[a["kind"]].steep:
            size = size + np.abs(oracle.compute(entry, a, t)[name])
        return {name: (size, length)}
    return {name: (v, length) for name, v in oracle.compute(entry, a, magnitude).items()}


def of_summed_taps(case: Case, output: str) -> float:
    """After a nearest upsample a version may sum the taps that meet the same pixel, or the gradients of a pixel's copies, before
    it rounds them: round(a + b) and the oracle's round(a) + round(b) are each within half a unit in the last place of
    |a| + |b|. Whole numbers stay exact."""
    a = case.attributes
    if case.family != "conv2d" or a["upsample"] == 1 or output not in ("y", "dx", "dw"):
        return 0.0
    return 2.1 * {"bf16": 2.0**-8, "fp16": 2.0**-11, "tf32": 2.0**-11}.get(oracle.operand_precision(a), 0.0)


@lru_cache(maxsize=8)
def expectation(
    case: Case, fill: str, entry: str, given: tuple[str, ...], bounded: bool = True
) -> tuple[Tensors, dict[str, Array]]:
    """(expected outputs, bounds for a version with factor 1 before `local`); shared by all versions and devices."""
    t = make_inputs(case, fill)
    kept = {k: v for k, v in t.items() if k in given}
    expected = oracle.compute(entry, case.attributes, kept)
    if not bounded:
        return expected, {}
    summed = bounds(case, entry, kept)
    return expected, {k: (EPSILON * (2.0 + np.sqrt(n)) + of_summed_taps(case, k)) * size for k, (size, n) in summed.items()}


def expect(case: Case, fill: str, entry: str, given: tuple[str, ...], bounded: bool = True) -> tuple[Tensors, dict[str, Array]]:
    if case.family == "conv2d" and entry != "conv2d_forward":  # one computation gives all gradients
        entry, given = "conv2d_backward", ("x", "w", "bias", "dy")
    return expectation(case, fill, entry, given, bounded)


def judge(name: str, got: Array, expected: Array, bound: Array | float, exact: bool) -> str:
    """ "" or what is wrong with the output."""
    if got.shape != expected.shape:
        return f"'{name}' has shape {got.shape}, expected {expected.shape}"
    with np.errstate(invalid="ignore", over="ignore"):
        wrong = got != expected if exact else ~(np.abs(got.astype(np.float64) - expected) <= bound)
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    limit = 0.0 if exact else float(np.broadcast_to(bound, got.shape)[at])
    with np.errstate(invalid="ignore", over="ignore"):
        worst = float(np.max(np.abs(got.astype(np.float64) - expected)))
    kind = f"{int(np.isnan(got).sum())} of them NaN, " if got.dtype.kind == "f" and np.isnan(got).any() else ""
    return (
        f"'{name}': {int(wrong.sum())} of {got.size} elements are wrong, {kind}first at {list(at)}: "
        f"got {got[at]:.9g}, expected {expected[at]:.9g}, allowed error {limit:.3g}; largest error {worst:.3g}"
    )


# ---- Running ----


def repro(target: Target, case: Case, entry: str, fill: str) -> str:
    return f"python tests/support/harness.py {target.device} {target.version} {case.name} {entry} {fill}"


def run_variant(core: Any, target: Target, case: Case, fill: str, entry: str, variant: tuple[str, str], twice: bool) -> None:
    """One entry with one choice of optional tensors; raises Mismatch."""
    available = make_inputs(case, fill)
    words, outputs = variant[0].split(), variant[1].split()
    halves = storage(case)
    given = as_stored({w: to_version(w, available[w], target) for w in words if not w.endswith("*")}, halves)
    if "saved*" in words:
        given |= from_forward(core, target, case, available)
    names = tuple(w.rstrip("*") for w in words)

    def call() -> Tensors:
        return core.call(target.device, target.version, entry, attributes_of(case, entry), given, outputs, True)

    where = repro(target, case, entry, fill)
    try:
        results = call()
    except (core.Error, ValueError, TypeError) as e:
        raise Mismatch(f"{type(e).__name__}: {e}\n  {where}") from e
    exact = is_exact(case, fill) and (target.exact or case.family != "conv2d")
    expected, tolerance = expect(case, fill, entry, names, not exact)
    updated = [name for name in given if name in expected and name not in ("y", "index")]
    for name in [*outputs, *updated]:
        if name not in results:
            raise Mismatch(f"output '{name}' is missing\n  {where}")
        right = expected[name]
        flat = decode(results[name], halves[name]) if name in halves else results[name]
        got = from_version(name, flat, right.shape, target)
        bound = 0.0 if exact else target.factor * (tolerance[name] if target.local else float(tolerance[name].max(initial=0.0)))
        if name in halves:
            if exact:
                right = oracle.rounded(right, HALVES[halves[name]])
            bound = bound + HALF_UNIT[halves[name]] * (np.abs(right) + bound) + SMALLEST[halves[name]]
        problem = judge(name, got, right, bound, exact)
        if problem:
            raise Mismatch(f"{problem}\n  {where}")
    if twice:
        again = call()
        for name, value in results.items():
            if value.tobytes() != again[name].tobytes():
                raise Mismatch(f"'{name}' has other bits when run again with the same inputs\n  {where}")


ALONG = {"x_activation": "conv2d_backward_input", "x_slope": "conv2d_backward_input", "with_db": "conv2d_backward_weight"}


def attributes_of(case: Case, entry: str) -> dict[str, Any]:
    """What a gradient takes along is the business of one entry."""
    return {k: v for k, v in case.attributes.items() if ALONG.get(k, entry) == entry}


def from_forward(core: Any, target: Target, case: Case, available: Tensors) -> Tensors:
    """y and saved as the forward entry leaves them, for the backward entries: y only where a plan gives it."""
    a = attributes_of(case, "conv2d_forward")
    inputs = as_stored({w: to_version(w, available[w], target) for w in ("x", "w", "bias")}, storage(case))
    result = core.call(target.device, target.version, "conv2d_forward", a, inputs, ["y", "saved"], True)
    given = {"saved", "y"} if target.reads_y and a["activation"] != "none" else {"saved"}
    return {k: v for k, v in result.items() if k in given}


def as_stored(given: Tensors, halves: dict[str, str]) -> Tensors:
    return {name: encode(flat, halves[name]) if name in halves else flat for name, flat in given.items()}


def refusal(core: Any, target: Target, case: Case, entry: str) -> str:
    """ "" if the version takes the entry; else its reason, which must be a sentence and must be what a call raises."""
    why: str = core.why_not(target.device, target.version, entry, attributes_of(case, entry))
    if why and (len(why.split()) < 4 or why != why.strip()):
        raise Mismatch(f"{target} refuses {entry} of {case.name} without a sentence: {why!r}")
    return why


def algorithm(core: Any, device: str, version: str, entry: str, case: Case) -> str:
    """The name of what computes the entry, as `warploom explain` shows it; "" where the version refuses."""
    own = attributes_of(case, entry)
    return "" if core.why_not(device, version, entry, own) else str(core.needs(device, version, entry, own)["algorithm"])


def check(
    core: Any, target: Target, case: Case, fills: tuple[str, ...], entries: tuple[str, ...] = (), twice: bool = True
) -> list[str]:
    """All entries of a case; returns the entries that ran. Raises Mismatch at the first wrong result."""
    ran = []
    for entry in entries or case.entries:
        if refusal(core, target, case, entry):
            continue
        if "backward" in entry and case.family == "conv2d" and refusal(core, target, case, "conv2d_forward"):
            continue  # nothing made the `y` and `saved` it would read
        for i, fill in enumerate(fills):
            for variant in variants(case, entry):
                run_variant(core, target, case, fill, entry, variant, twice and i == 0)
        ran.append(entry)
    return ran


def main(arguments: list[str]) -> int:
    if len(arguments) < 3:
        print(__doc__)
        return 2
    from warploom import _core

    device, version, name, *rest = arguments
    chosen = target(_core, device, version)
    if chosen is None:
        print(f"there is no usable device '{device}' with version '{version}'; there are: {', '.join(map(str, targets(_core)))}")
        return 2
    case, entries, fills = find(name), tuple(rest[:1]), tuple(rest[1:2]) or ("integers", "floats")
    try:
        ran = check(_core, chosen, case, fills, entries)
    except Mismatch as e:
        print(e)
        return 1
    print(f"{chosen} {case.name}: {', '.join(ran) or 'nothing ran (all refused)'}; right for {', '.join(fills)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
