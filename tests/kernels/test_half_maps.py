"""Maps stored in 16 bits: every way of v5 and v7 against the oracle, which sees the rounded inputs; who takes them.

An output may be off by half a unit in the last place more; whole numbers must be exactly the rounded result. Between convolutions
nothing is lost: operands are rounded to the same 16 bits either way, so y, dx and dw are the bits of float32 maps, rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from activations import ACTIVATIONS
from cases import Case, activation, add, after, conv, fused, precise, stored, stored_flat
from conftest import device_mark, kernel_targets
from harness import Target, algorithm, as_stored, attributes_of, check, decode, from_forward, make_inputs, storage, to_version

V5: list[Target] = [t for t in kernel_targets() if t.version == "v5"]
V7: list[Target] = [t for t in kernel_targets() if t.version == "v7"]
FORWARD, DX, DW, DB = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight", "conv2d_backward_bias")
BOTH, X, Y = ("bf16", "bf16"), ("bf16", "f32"), ("f32", "bf16")

# (the convolution, how x and y are stored)
GENERAL: list[tuple[Case, tuple[str, str]]] = [
    (case, types)
    for case in (
        conv((3, 72, 9, 11), 40, 3, pad=1),
        conv((2, 64, 9, 9), 72, 3, pad=1),  # whole steps within a tap
        conv((1, 6, 7, 5), 10, 3, pad=1),  # single elements, pairs
        conv((2, 5, 7, 9), 7, 3, pad=1),  # single elements, no pairs
        conv((2, 33, 6, 7), 35, (5, 2), pad=(2, 1, 0, 1)),
        conv((2, 32, 11, 10), 32, 3, stride=2, pad=1),
        conv((1, 36, 9, 9), 132, 3, pad=1),  # a step over the edge of a tap, in vectors of four
        conv((2, 32, 9, 9), 96, 3, pad=1, groups=2),
        conv((2, 10, 8, 7), 14, 3, pad=1, groups=2),
        conv((5, 12, 1, 1), 20, 1),
        conv((2, 64, 8, 8), 5, 3, pad=1),
        fused(conv((2, 64, 12, 8), 64, 3, pad=1), activation="relu", pool=2),
        fused(conv((2, 32, 7, 5), 47, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2),
        fused(conv((1, 7, 6, 9), 9, 3, pad=1), activation="relu", pool=2),
        fused(conv((2, 16, 8, 8), 64, 3, pad=1), activation="sigmoid"),
        fused(conv((2, 40, 12, 10), 24, 3, pad=1), activation="relu", upsample=2),  # summed taps
        fused(conv((1, 64, 6, 8), 64, 4, pad=(1, 2, 2, 0)), upsample=2),
        fused(conv((1, 6, 4, 6), 5, 3, pad=1), activation="relu", upsample=2),
    )
    for types in (BOTH, X, Y)
]
WIDE = [
    (conv((1, 32, 80, 161), 66, 1), BOTH),  # more than 100 tiles of 128 x 128; the gradient of the next one's input too
    (conv((1, 96, 80, 161), 32, 1), BOTH),
    (conv((3, 20, 21, 20), 160, 3, pad=1), BOTH),
    (fused(conv((13, 32, 32, 32), 128, 1), activation="relu", pool=2), BOTH),
]
FEW: list[tuple[str, tuple[str, ...], Case, tuple[str, str]]] = [  # the way, the entries that take it
    ("few channels", (FORWARD, DW), conv((2, 3, 32, 32), 72, 3, pad=1), Y),
    ("few channels", (FORWARD, DW), conv((2, 1, 34, 30), 17, 4, stride=2, pad=1), Y),
    ("few channels", (FORWARD, DW), fused(conv((2, 3, 16, 24), 72, 3, pad=1), activation="relu", pool=2), Y),
    (
        "few channels",
        (FORWARD, DW),
        fused(conv((1, 4, 19, 27), 21, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2),
        Y,
    ),
    ("few channels", (DX, DW), conv((1, 24, 9, 11), 3, 3, pad=1), X),
    ("few channels", (DX, DW), conv((1, 35, 12, 10), 3, 1), X),
    ("few channels", (DX, DW), fused(conv((2, 130, 20, 36), 3, 3, pad=1), upsample=2), X),
    ("columns", (FORWARD,), conv((1, 36, 33, 31), 3, 3, pad=1), X),
    ("columns", (FORWARD,), fused(conv((2, 64, 32, 32), 3, 3, pad=1), upsample=2), X),
    ("columns", (DX,), conv((1, 3, 17, 40), 132, 3, stride=2, pad=1), Y),
]
SLOPES = [
    after(conv((3, 72, 9, 11), 40, 3, pad=1), "relu"),
    after(conv((1, 6, 7, 5), 10, 3, pad=1), "leaky_relu", 0.25),
    after(conv((1, 7, 7, 5), 9, 3, pad=1), "relu"),
    after(conv((2, 32, 11, 10), 32, 3, stride=2, pad=1), "relu"),
    after(fused(conv((2, 64, 12, 8), 64, 3, pad=1), activation="relu", pool=2), "relu"),
    after(fused(conv((2, 64, 16, 16), 3, 3, pad=1), upsample=2), "relu"),
    after(fused(conv((2, 40, 12, 10), 24, 3, pad=1), upsample=2), "leaky_relu", 0.25),
]
HALO = [
    (case, types)
    for case in (
        conv((2, 32, 5, 7), 40, 3, pad=1),
        conv((2, 32, 33, 31), 40, 3, pad=1),
        conv((7, 32, 3, 2), 40, 1),
        conv((1, 64, 11, 6), 72, 5, pad=2),
        conv((1, 40, 6, 7), 32, 3, pad=(0, 2, 1, 0)),
        conv((2, 136, 16, 16), 136, 3, pad=1),  # several chunks, the last one short
        conv((101, 32, 8, 16), 72, 1),  # blocks enough for 128 columns
        conv((9, 40, 12, 20), 72, (3, 2), pad=1),  # runs of boxes that meet in a second pass
        conv((1, 40, 6, 6), 40, 4, pad=2),  # sixteen taps
        fused(conv((3, 32, 10, 6), 48, 3, pad=1), activation="relu", pool=2),
        fused(conv((2, 32, 7, 5), 64, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2),
        fused(conv((5, 32, 2, 2), 32, 3, pad=1), activation="relu", pool=2),
        fused(conv((2, 40, 9, 14), 144, 3, pad=1), activation="relu", pool=2),  # units of 64 codes, the last one short
        conv((17, 64, 4, 4), 136, 3, pad=1),  # whole images a box, which leaves two stages of halos
        fused(conv((2, 32, 8, 12), 40, 3, pad=1), activation="relu", upsample=2),
        fused(conv((3, 40, 6, 10), 136, 3, pad=1), upsample=2),
        after(fused(conv((1, 72, 34, 4), 16, 3, pad=1), upsample=2), "leaky_relu", 0.25),
        conv((2, 40, 12, 9), 40, 3, stride=2, pad=1),
        after(conv((2, 32, 9, 11), 40, 3, pad=1), "relu"),
    )
    for types in (BOTH, X, Y)
]
LARGE = (conv((1, 64, 12, 13), 64, 11, pad=5), BOTH)  # fits beside 64 columns of weights only, and as halos


def half(case: Case, types: tuple[str, str], precision: str = "bf16") -> Case:
    dtype = {"bf16": "bf16", "fp16": "f16"}[precision]
    x, y = ("f32" if t == "f32" else dtype for t in types)
    return stored(precise(case, precision), x, y)


def run(core: Any, target: Target, case: Case, entries: tuple[str, ...] = (FORWARD, DX, DW, DB)) -> None:
    checked = target.device == "emulated:checked"
    fills = ("floats",) if checked else ("integers", "floats")
    taken = tuple(e for e in entries if e == FORWARD or case.attributes["activation"] in ("none",) or case.attributes["pool"] > 1)
    assert check(core, target, case, fills, taken, twice=not checked and case.work < 1e6) == list(taken)


def on(targets: list[Target]) -> list[Any]:
    return [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in targets]


def named(cases: list[Case]) -> list[Any]:
    return [pytest.param(case, id=case.name) for case in cases]


@pytest.mark.parametrize("case", named([half(*c, p) for p in ("bf16", "fp16") for c in GENERAL]))
@pytest.mark.parametrize("target", on(V5))
def test_general_ways(core: Any, target: Target, case: Case) -> None:
    if target.device == "emulated:checked" and case.attributes["precision"] == "fp16" and "f16" not in case.attributes["y_type"]:
        pytest.skip("the fast emulator runs it")
    run(core, target, case)


@pytest.mark.parametrize("case", named([half(*c) for c in WIDE]))
@pytest.mark.parametrize("target", on([t for t in V5 if t.device != "emulated:checked"]))
def test_wide_tiles(core: Any, target: Target, case: Case) -> None:
    run(core, target, case)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(("way", "entries", "case", "types"), [pytest.param(*c, id=c[2].name) for c in FEW])
@pytest.mark.parametrize("target", on(V5))
def test_few_channels_and_outputs(
    core: Any, target: Target, way: str, entries: tuple[str, ...], case: Case, types: tuple[str, str], precision: str
) -> None:
    case = half(case, types, precision)
    for entry in entries:
        assert algorithm(core, target.device, "v5", entry, case).endswith(way)
    run(core, target, case)


HALF_SLOPES = [(c, t) for c in SLOPES for t in (BOTH, X) if t == X or c.attributes["C_out"] > 4]


@pytest.mark.parametrize("case", named([half(*c, p) for p in ("bf16", "fp16") for c in HALF_SLOPES]))
@pytest.mark.parametrize("target", on(V5))
def test_slopes(core: Any, target: Target, case: Case) -> None:
    run(core, target, case, (DX,))


@pytest.mark.parametrize("case", named([half(*c, p) for p in ("bf16", "fp16") for c in HALO] + [half(*LARGE)]))
@pytest.mark.parametrize("target", on(V7))
def test_halos(core: Any, target: Target, case: Case) -> None:
    if target.device == "emulated:checked" and case.attributes["precision"] == "fp16" and case.work > 1e6:
        pytest.skip("the fast emulator runs it")
    a = case.attributes
    entries = tuple(e for e in (FORWARD, DX, DW) if algorithm(core, target.device, "v7", e, case).startswith("wgmma"))
    plain = a["stride_h"] == 1
    assert (FORWARD in entries) == (plain and a["C_out"] >= 32)
    assert (DX in entries) == (a["activation"] == "none" or a["pool"] == 2)  # v5 refuses an activation alone
    assert (DW in entries) == (DX in entries and plain and a["KH"] * a["KW"] >= 6 and a["C_out"] >= 32)
    run(core, target, case, entries)


ELEMENTWISE = [
    stored_flat(case, dtype)
    for dtype in ("bf16", "f16")
    for count in (1, 31, 257, 4099)
    for case in (activation(count, "relu"), activation(count, "leaky_relu", 0.25), activation(count, "sigmoid"), add(count))
]


@pytest.mark.parametrize("case", named(ELEMENTWISE))
@pytest.mark.parametrize("target", on([t for t in kernel_targets() if t.version == "v2"]))
def test_elementwise(core: Any, target: Target, case: Case) -> None:
    assert check(core, target, case, ("integers", "floats")) == list(case.entries)


@pytest.mark.parametrize("version", ["v5", "v7"])
@pytest.mark.parametrize(
    "case",
    [
        conv((2, 40, 9, 11), 48, 3, pad=1),
        fused(conv((2, 32, 8, 12), 48, 3, pad=1), activation="relu", pool=2),
        after(conv((2, 32, 9, 7), 40, 3, pad=1), "relu"),
        fused(conv((1, 32, 12, 8), 40, 3, pad=1), upsample=2),
    ],
    ids=lambda case: case.name,
)
def test_the_bits_of_float32_maps(core: Any, version: str, case: Case) -> None:
    """The same inputs, exact in 16 bits: what is float32 has the same bits, what is not has them rounded."""
    target = next(t for t in kernel_targets() if (t.device, t.version) == ("emulated", version))
    results = []
    t = make_inputs(half(case, BOTH), "floats")
    for types in (BOTH, ("f32", "f32")):
        here = half(case, types)
        kept = from_forward(core, target, here, t)
        found = {}
        for entry, names, output in (
            (FORWARD, ("x", "w", "bias"), "y"),
            (DX, ("dy", "w", *(("x",) if "x_activation" in case.attributes else ())), "dx"),
            (DW, ("dy", "x"), "dw"),
            (DB, ("dy",), "db"),
        ):
            given = as_stored({n: to_version(n, t[n], target) for n in names}, storage(here)) | ({} if entry == FORWARD else kept)
            found[output] = core.call("emulated", version, entry, attributes_of(here, entry), given, [output])[output]
        results.append(found)
    for name, wide in results[1].items():
        narrow = results[0][name]
        if name in ("y", "dx"):
            bits = wide.view(np.uint32).astype(np.uint64)
            wide = (((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32)).view(np.float32)
            narrow = decode(narrow, "bf16")
        np.testing.assert_array_equal(narrow, wide, err_msg=name)


def test_misaligned_maps(core: Any) -> None:
    """Inputs off the grid of 16 bytes: single elements of 16 bits."""
    for version in ("v5", "v7"):
        target = next(t for t in kernel_targets() if (t.device, t.version) == ("emulated", version))
        case = half(conv((2, 32, 7, 9), 128, 3, pad=1), BOTH)
        t = make_inputs(case, "integers")
        for entry, names, output in ((FORWARD, ("x", "w"), "y"), (DX, ("dy", "w"), "dx"), (DW, ("dy", "x"), "dw")):
            given = as_stored({n: to_version(n, t[n], target) for n in names}, storage(case))
            right = core.call("emulated", version, entry, case.attributes, given, [output])[output]
            off = core.call("emulated", version, entry, case.attributes, given, [output], True, offset=4)[output]
            np.testing.assert_array_equal(off, right, err_msg=f"{version} {entry}")


def test_nan_and_infinity_stay(core: Any) -> None:
    case = half(conv((1, 8, 5, 5), 6, 1), BOTH)
    target = next(t for t in V5 if t.device == "emulated")
    t = {k: v.copy() for k, v in make_inputs(case, "integers").items()}
    x, w = np.ones_like(t["x"]), np.ones_like(t["w"])
    x[0, 3, 1, 2], x[0, 3, 4, 4] = np.nan, np.inf
    given = as_stored({"x": to_version("x", x, target), "w": to_version("w", w, target)}, storage(case))
    y = decode(core.call("emulated", "v5", FORWARD, case.attributes, given)["y"], "bf16").reshape(5, 5, 6)
    assert np.isnan(y[1, 2]).all()
    assert np.isposinf(y[4, 4]).all()
    assert np.isfinite(y).sum() == 23 * 6


def test_who_takes_no_half_maps(core: Any) -> None:
    """One sentence each, from every entry that would read or write the map."""
    plain = conv((2, 32, 8, 8), 32, 3, pad=1)
    for device, version in [("cpu", "cpu"), *(("emulated", f"v{i}") for i in (1, 2, 3, 4))]:
        for entry in (FORWARD, DX, DW):
            why = core.why_not(device, version, entry, stored(plain, "bf16", "bf16").attributes)
            assert "float32" in why, (version, entry)
    for device, version in (("cpu", "cpu"), ("emulated", "v1")):
        for entry, case in (("add", add(4)), ("activation_forward", activation(4, "relu"))):
            assert "float32" in core.why_not(device, version, entry, stored_flat(case, "bf16").attributes), (version, entry)
    for version in ("v5", "v6", "v7"):
        assert core.why_not("emulated", version, FORWARD, stored(precise(plain, "bf16"), "f16").attributes)  # not its operands'
        assert core.why_not("emulated", version, FORWARD, stored(precise(plain, "tf32"), "bf16").attributes)
        assert core.why_not("emulated", version, FORWARD, stored(plain, "bf16").attributes)
        small = half(conv((2, 8, 8, 8), 8, 3, pad=1, groups=4), BOTH)  # v2's kernels
        assert core.why_not("emulated", version, FORWARD, small.attributes)
        smooth = stored_flat(activation(4, next(k for k in ACTIVATIONS if k == "tanh")), "bf16")
        assert core.why_not("emulated", version, "activation_forward", smooth.attributes)
