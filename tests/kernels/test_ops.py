"""Every version on every device that is there computes every operation right: the case list against the oracle.

One test is one case on one target (device and version) with all its entries; it fails with a line that runs the case alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from activations import ACTIVATIONS, EXTREMES
from cases import (
    LONG,
    MODELS_REDUCED,
    MODELS_SINGLE,
    PRECISE,
    PRECISIONS,
    SMALL,
    SMALL_FUSIONS,
    TENSOR_CORE_TILES,
    Case,
    activation,
    conv,
    fused,
    mse,
    pool,
    precise,
)
from conftest import _core, device_mark, kernel_targets
from harness import Target, check, expect, from_version, make_inputs, refusal, to_version

TARGETS: list[Target] = kernel_targets()
# All gradients in one call: for kernel sets that share work between them. A folded average pool: only the host has it.
ENTRIES_EVERY_VERSION_MAY_LACK = {"conv2d_backward", "conv2d_mean_forward"}


def cases_for(target: Target) -> list[tuple[Case, tuple[str, ...]]]:
    """The cases a target runs and their inputs. The checked emulator takes what is small; the fast one the models' channels."""
    both, one = ("integers", "floats"), ("integers",) if target.exact else ("floats",)
    if target.inherits:
        listed = SMALL if target.device == "emulated:checked" else SMALL + LONG
        own = [case for case in listed if case.family != "conv2d" and set(case.entries) & set(target.own)]
        return [(case, one) for case in dict.fromkeys([*SMALL[::16], *own])] + precise_cases_for(target)
    if target.falls_to:  # its schemes have a test of their own below
        return [(case, one) for case in SMALL[::16]]
    if target.device == "emulated:checked":
        return [(case, both if i % 4 == 0 else one) for i, case in enumerate(SMALL)]
    if target.device == "emulated":
        return [(case, both) for case in SMALL[::8]] + [(case, one) for case in LONG + MODELS_REDUCED]
    # Whole numbers make ties at a ReLU or a maximum, which rounding then breaks: only exact algorithms can be judged there.
    found = [(case, both if target.exact or not is_folded(case) else one) for case in SMALL]
    found += [(case, one) for case in LONG + MODELS_REDUCED]
    if target.device.startswith("cuda"):
        found += [(case, one) for case in MODELS_SINGLE if case.work <= 3e9]
    return found


@pytest.mark.parametrize("target", [t for t in TARGETS if t.inherits], ids=str)
def test_what_a_version_replaces_is_tried_whole(target: Target) -> None:
    """Of a version that starts from another's table the cases of its own entries are not thinned out, those of others are."""
    adds = {case for case in SMALL if case.family == "add"}
    assert adds
    assert (adds <= {case for case, _ in cases_for(target)}) == ("add" in target.own)
    assert adds <= {case for case, _ in cases_for(replace(target, own=(*target.own, "add")))}


def test_who_replaces_what_is_known() -> None:
    assert all({"conv2d_forward", "add"} <= set(target.own) for target in TARGETS if not target.inherits)
    assert not TARGETS or any("conv2d_forward" in t.own and "add" not in t.own for t in TARGETS if t.inherits)


def takes(target: Target, case: Case) -> bool:
    return _core is not None and not _core.why_not(target.device, target.version, "conv2d_forward", case.attributes)


def in_tiles(case: Case) -> float:
    """Multiplications when the pixels are filled up to whole tiles: a map of 1 x 1 makes the emulator do 64 times the work."""
    pixels = case.attributes["N"] * case.attributes["OH"] * case.attributes["OW"]
    return case.work * -(-pixels // 64) * 64 / pixels


def precise_cases_for(target: Target) -> list[tuple[Case, tuple[str, ...]]]:
    """Every precision on a GPU; on the emulators they take turns at what is slow there."""
    n = len(PRECISIONS)
    if target.device == "emulated:checked":
        found = [(case, ("integers",)) for i, case in enumerate(PRECISE) if i % n == i // n % n]
        found += [(case, ("floats",)) for case in TENSOR_CORE_TILES if case.work < 5e7]
    else:
        everything = target.device == "cuda"  # else what the checked emulator leaves out
        small = [(i, case) for i, case in enumerate(PRECISE) if everything or i % n != i // n % n]
        found = [(case, ("integers", "floats") if i % 4 == 0 else ("integers",)) for i, case in small]
        found += [
            (case, ("floats",))
            for i, case in enumerate(TENSOR_CORE_TILES)
            if everything or case.work < 2e7 or i % n == i // n % n
        ]
        models = [(precise(case, PRECISIONS[i % n]), ("integers",)) for i, case in enumerate(MODELS_REDUCED)]
        found += [(case, fills) for case, fills in models if everything or in_tiles(case) < 1e8]
    return [(case, fills) for case, fills in found if takes(target, case)]


def is_folded(case: Case) -> bool:
    a = case.attributes
    return case.family == "conv2d" and (a["activation"] != "none" or a["pool"] > 1 or a["upsample"] > 1)


def all_runs() -> list[Any]:
    """Case by case, so that the oracle computes each expectation once for all targets."""
    runs: dict[str, list[Any]] = {}
    for target in TARGETS:
        for case, fills in cases_for(target):
            run = pytest.param(target, case, fills, id=f"{target}-{case.name}", marks=device_mark(target.device))
            runs.setdefault(case.name, []).append(run)
    return [run for group in runs.values() for run in group]


def by_target(*others: Any) -> list[Any]:
    return [pytest.param(t, *others, id=str(t), marks=device_mark(t.device)) for t in TARGETS]


def test_there_is_something_to_test(core: Any) -> None:
    assert TARGETS, "no device library is usable: " + "; ".join(f"{x['kind']}: {x['why']}" for x in core.libraries())
    assert {"cpu", "emulated", "emulated:checked"} <= {t.device for t in TARGETS}


@pytest.mark.parametrize(("target", "case", "fills"), all_runs())
def test_case(core: Any, target: Target, case: Case, fills: tuple[str, ...]) -> None:
    # Same bits twice: on the fast emulator where that takes no time, on real devices always.
    twice = target.device != "emulated:checked" and (target.device != "emulated" or case.work < 2e6)
    entries = case.entries
    # Tens of seconds each: a version takes one entry, the next version the next; what a version replaces is taken whole.
    if target.device == "emulated" and case in LONG and not target.inherits:
        entries = entries[(LONG.index(case) + int(target.version.strip("v"))) % 4 :: 4]
    ran = check(core, target, case, fills, entries, twice=twice)
    if not is_folded(case):  # a version may refuse to fold; what is plain it must take
        missing = set(entries) - set(ran) - ENTRIES_EVERY_VERSION_MAY_LACK
        reasons = [f"{entry}: {refusal(core, target, case, entry)}" for entry in sorted(missing)]
        assert not missing, f"{target} refuses a plain {case.name}: {'; '.join(reasons)}"


# The schemes of v6, each forced over every shape it takes; the cost rule would choose none of them for maps this small. After an
# upsample the coefficients are 0, 1 and -1: exact for whole numbers.
SCHEMES = {"winograd4": False, "winograd2": False, "upsample9": True, "upsample25": True, "few_inputs": True}
SCHEME_TARGETS = [t for t in TARGETS if t.falls_to]


def _scheme_grid() -> Iterator[Case]:
    """What decides how a scheme goes about its work: every tile of the matrix product, channels on both sides of vector widths,
    tiles and pool windows that end outside the map."""
    yield conv((1, 4, 64, 64), 128, 3, pad=1)  # the large tile of the product
    yield conv((1, 5, 64, 64), 64, 3, pad=1)  # the next one
    yield conv((2, 72, 9, 7), 72, 3, pad=1)
    yield conv((17, 2, 2, 2), 3, 3, pad=1)
    yield conv((5, 7, 5, 7), 18, 3, pad=(0, 2, 1, 3))
    for channels, out in ((1, 4), (3, 40), (4, 264)):  # first layers: threads of a block, rows of more than sixteen windows
        yield fused(conv((3, channels, 7, 9), out, 3, pad=(1, 2, 0, 1)), activation="relu")
        yield fused(conv((3, channels, 6, 37), out, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2)
        yield fused(conv((2, channels, 5, 9), out, 3, pad=(0, 1, 2, 0)), pool=2)
    for channels, out in ((3, 5), (6, 8), (8, 6), (33, 34)):
        yield fused(conv((2, channels, 13, 11), out, 3, pad=1), activation="leaky_relu", slope=0.25, pool=2)
        yield fused(conv((3, channels, 6, 22), out, 3, pad=1), activation="leaky_relu", slope=0.25, upsample=2)
        yield fused(conv((1, channels, 10, 2), out, 3, pad=1), upsample=2)


SCHEME_GRID = [case for case in [*SMALL, *_scheme_grid()] if case.family == "conv2d" and case.attributes["KH"] == 3]
MANY_TILES = [  # several chunks, each a part of an image; sums over tiles that are split
    conv((1, 4, 1100, 700), 4, 3, pad=1),
    fused(conv((1, 4, 1100, 700), 4, 3, pad=1), upsample=2),
]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in SCHEME_TARGETS])
def test_scheme(core: Any, monkeypatch: pytest.MonkeyPatch, target: Target, scheme: str) -> None:
    monkeypatch.setenv("WARPLOOM_BILINEAR", scheme)
    exact = SCHEMES[scheme]
    target = replace(target, exact=exact)
    ran = 0
    checked = target.device == "emulated:checked"
    many = MANY_TILES if scheme in ("winograd4", "upsample25") else []
    for case in [case for case in SCHEME_GRID if case.work < 1e6] if checked else [*SCHEME_GRID, *many]:
        if core.why_not(target.device, target.version, "conv2d_forward", case.attributes):
            continue
        if core.needs(target.device, target.version, "conv2d_forward", case.attributes)["algorithm"] == scheme:
            if scheme == "few_inputs":  # the gradient of its input, where it folds a pool, is winograd4's
                loose = replace(target, exact=False)
                ran += len(check(core, loose, case, ("floats",), ("conv2d_backward_input",), twice=False))
                exactly = tuple(e for e in case.entries if e != "conv2d_backward_input")
                ran += len(check(core, target, case, ("integers", "floats"), exactly, twice=case.work < 1e6))
                continue
            once = case in MANY_TILES or case.work > 1e6
            ran += len(check(core, target, case, ("integers", "floats") if exact and not once else ("floats",), twice=not once))
    assert ran >= 30, f"the case list hardly tests {scheme}: {ran} entries ran"


@pytest.mark.parametrize("target", by_target())
def test_refused_work_raises_the_reason(core: Any, target: Target) -> None:
    for case in SMALL_FUSIONS:
        why = refusal(core, target, case, "conv2d_forward")
        if not why:
            continue
        t = make_inputs(case, "integers")
        given = {name: to_version(name, t[name], target) for name in ("x", "w", "bias")}
        with pytest.raises(core.UnsupportedError) as error:
            core.call(target.device, target.version, "conv2d_forward", case.attributes, given)
        assert why in str(error.value)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("target", by_target())
def test_small_gradients_keep_their_bits(core: Any, target: Target, precision: str) -> None:
    """The gradient of a mean over a batch lies below the smallest fp16. A power of two more or less must not change a digit."""
    case = precise(conv((2, 32, 7, 9), 40, 3, pad=1), precision)
    if not takes(target, case):
        pytest.skip("a version without tensor cores")
    t = make_inputs(case, "floats")
    for scale in (2.0**-40, 2.0**40):
        for entry, other, output, shape in (
            ("conv2d_backward_input", "w", "dx", (2, 32, 7, 9)),
            ("conv2d_backward_weight", "x", "dw", (40, 32, 3, 3)),
        ):
            plain = _call(core, target, case, entry, {"dy": t["dy"], other: t[other]}, output, shape)
            scaled = _call(core, target, case, entry, {"dy": t["dy"] * np.float32(scale), other: t[other]}, output, shape)
            np.testing.assert_array_equal(scaled, plain * np.float32(scale))


# An upsample before a 3x3 convolution, large enough for the 128x128 tiles of v5's summed taps, each direction where it is cheap.
WIDE_UPSAMPLES = {
    ("conv2d_forward", "conv2d_backward_weight"): fused(conv((13, 96, 32, 32), 96, 3, pad=1), upsample=2),
    ("conv2d_backward_input",): fused(conv((5, 1536, 32, 32), 32, 3, pad=1), upsample=2),
}
WIDE_TARGETS = [t for t in TARGETS if t.inherits and t.device != "emulated:checked"]


@pytest.mark.parametrize("precision", ["bf16", "tf32"])  # fp16 takes the same tiles as bf16
@pytest.mark.parametrize("target", [pytest.param(t, id=str(t), marks=device_mark(t.device)) for t in WIDE_TARGETS])
def test_wide_tiles_after_an_upsample(core: Any, target: Target, precision: str) -> None:
    for entries, case in WIDE_UPSAMPLES.items():
        if not takes(target, precise(case, precision)):
            pytest.skip("a version without tensor cores")
        assert check(core, target, precise(case, precision), ("integers",), entries, twice=False) == list(entries)


# ---- Values that are not numbers must not disappear ----


def _call(core: Any, target: Target, case: Case, entry: str, inputs: dict[str, Any], output: str, shape: tuple[int, ...]) -> Any:
    flat = {name: to_version(name, value, target) for name, value in inputs.items()}
    return from_version(output, core.call(target.device, target.version, entry, case.attributes, flat)[output], shape, target)


@pytest.mark.parametrize("target", by_target())
def test_nan_reaches_every_output_that_reads_it(core: Any, target: Target) -> None:
    case = conv((2, 5, 7, 9), 6, 3, pad=1)
    t = {k: v.copy() for k, v in make_inputs(case, "integers").items()}
    t["x"][1, 3, 4, 5] = np.nan
    inputs = {name: t[name] for name in ("x", "w", "bias")}
    y = _call(core, target, case, "conv2d_forward", inputs, "y", (2, 6, 7, 9))
    assert np.isnan(y[1, :, 3:6, 4:7]).all(), "a NaN in the input must reach the nine outputs around it, whatever the weight is"
    assert np.isfinite(y[0]).all(), "a NaN must stay in its image"
    for precision in PRECISIONS:
        rounding = precise(case, precision)
        if takes(target, rounding):
            y = _call(core, target, rounding, "conv2d_forward", inputs, "y", (2, 6, 7, 9))
            assert np.isnan(y[1, :, 3:6, 4:7]).all(), f"{precision} must keep a NaN"
            assert np.isfinite(y[0]).all()


@pytest.mark.parametrize("channels", [3, 4])  # single ones, and four in one access
@pytest.mark.parametrize("target", by_target())
def test_nan_wins_in_max_pool(core: Any, target: Target, channels: int) -> None:
    case = pool((1, channels, 4, 6), 2)
    x = make_inputs(case, "integers")["x"].copy()
    x[0, 1, 1, 0] = x[0, 2, 2, 5] = np.nan
    y = _call(core, target, case, "max_pool2d_forward", {"x": x}, "y", (1, channels, 2, 3))
    assert np.argwhere(np.isnan(y)).tolist() == [[0, 1, 0, 0], [0, 2, 1, 2]]
    x = np.full_like(x, -np.inf)
    y = _call(core, target, case, "max_pool2d_forward", {"x": x}, "y", (1, channels, 2, 3))
    assert (y == -np.inf).all(), "the maximum of nothing but -infinity is -infinity"


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("target", by_target())
def test_activation_of_extremes(core: Any, target: Target, kind: str) -> None:
    x, known = np.array(EXTREMES, np.float32), ACTIVATIONS[kind]
    case = activation(len(x), kind, known.number)
    y = _call(core, target, case, "activation_forward", {"x": x}, "y", x.shape)
    np.testing.assert_allclose(y, np.array(known.extremes, np.float32), rtol=1e-6, atol=1e-38)


@pytest.mark.parametrize("target", by_target())
def test_nan_reaches_the_loss(core: Any, target: Target) -> None:
    case = mse(300)
    t = {k: v.copy() for k, v in make_inputs(case, "floats").items()}
    t["prediction"][299] = np.nan
    loss = _call(core, target, case, "mse_loss", {k: t[k] for k in ("prediction", "target")}, "loss", (1,))
    assert np.isnan(loss[0])


@pytest.mark.parametrize("target", by_target())
def test_mse_loss_of_many_elements_keeps_float32_accuracy(core: Any, target: Target) -> None:
    """A running float32 sum of a million squares would be wrong in the third digit."""
    if target.device == "emulated:checked":
        pytest.skip("the fast emulator runs it")
    case = mse(1_048_577)
    t = make_inputs(case, "floats")
    loss = _call(core, target, case, "mse_loss", {k: t[k] for k in ("prediction", "target")}, "loss", (1,))
    expected, _ = expect(case, "floats", "mse_loss", ("prediction", "target"), bounded=False)
    assert abs(loss[0] / expected["loss"][0] - 1) <= 1e-6


# ---- The same bits in another process, with other threads or another order of the emulated threads ----

DIGEST = """
import hashlib, sys
import harness
from cases import conv, find, fused, precise
from warploom import _core
device, version = sys.argv[1:]
target = harness.target(_core, device, version)
digest = hashlib.sha256()
class Recording:
    Error, why_not = _core.Error, _core.why_not
    def call(self, *arguments):
        results = _core.call(*arguments)
        for name in sorted(results):
            digest.update(results[name].tobytes())
        return results
convs = conv((3, 16, 12, 12), 24, 3, pad=1), conv((5, 3, 9, 9), 8, 5, stride=2, pad=2)
convs += tuple(precise(case, p) for case in convs for p in ("bf16", "tf32"))  # refused by versions without tensor cores
for case in (*convs, find("mse_70001_w1"), find("sgd_5003")):
    harness.check(Recording(), target, case, ("floats",), twice=False)
print(digest.hexdigest())
"""


def digest(target: Target, **environment: str) -> str:
    paths = os.pathsep.join(p for p in sys.path if p)
    full = {**os.environ, "PYTHONPATH": paths, **environment}
    command = [sys.executable, "-c", DIGEST, target.device, target.version]
    done = subprocess.run(command, env=full, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("target", by_target())
def test_same_bits_with_any_number_of_threads(core: Any, target: Target) -> None:
    if target.device.startswith("cuda"):
        pytest.skip("a GPU has no thread count to set; test_case runs everything twice")
    if target.device == "emulated:checked":
        first, second = (
            {"WARPLOOM_EMULATOR_SEED": "1", "WARPLOOM_THREADS": "1"},
            {"WARPLOOM_EMULATOR_SEED": "2", "WARPLOOM_THREADS": "3"},
        )
    else:
        first, second = {"WARPLOOM_THREADS": "1"}, {"WARPLOOM_THREADS": "3"}
    assert digest(target, **first) == digest(target, **second)


# ---- Wrong calls ----

CONV = conv((1, 2, 4, 4), 3, 3, pad=1)


def _good(name: str) -> Any:
    return make_inputs(CONV, "integers")[name].reshape(-1)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"inputs": {"x": np.zeros(5, np.float32)}}, ValueError, "must hold 32 elements, not 5"),
        ({"inputs": {"x": np.zeros(32, np.float64)}}, TypeError, "must be float32, not float64"),
        ({"inputs": {"nonsense": np.zeros(3, np.float32)}}, TypeError, "no input 'nonsense'"),
        ({"without": "w"}, TypeError, "needs the input 'w'"),
        ({"attributes": {"nonsense": 1}}, TypeError, "no attribute 'nonsense'"),
        ({"attributes": {"activation": "softsign"}}, ValueError, "unknown activation 'softsign'"),
        ({"entry": "conv3d"}, KeyError, "unknown operation 'conv3d'"),
        ({"version": "v99"}, "UnsupportedError", "no version 'v99'"),
        ({"device": "tpu"}, "DeviceError", "'tpu'"),
        ({"device": "cuda:99"}, "DeviceError", "cuda"),
    ],
)
def test_wrong_calls_raise_one_clear_sentence(core: Any, change: dict[str, Any], error: Any, text: str) -> None:
    inputs = {k: _good(k) for k in ("x", "w", "bias") if k != change.get("without")} | change.get("inputs", {})
    attributes = CONV.attributes | change.get("attributes", {})
    kind = getattr(core, error) if isinstance(error, str) else error
    with pytest.raises(kind, match=text) as raised:
        core.call(
            change.get("device", "cpu"), change.get("version", "cpu"), change.get("entry", "conv2d_forward"), attributes, inputs
        )
    assert "\n" not in str(raised.value)


def test_entries_match_the_oracle(core: Any) -> None:
    """A new operation in kernels/ops.def needs a reference and a case."""
    import oracle
    import shared_ops

    # Three steps in one, for inference: tests/engine/test_mean_pools.py compares it with the three, and with float64.
    names = {entry["name"] for entry in core.entries()} - {"conv2d_mean_forward"}
    shared = shared_ops.entries_with_reference()  # kernels/ops/<name>/reference.py: both in one
    assert not shared & set(oracle.ENTRIES), "an operation has one oracle"
    assert names == set(oracle.ENTRIES) | shared
    assert names == {entry for case in SMALL for entry in case.entries} | shared
