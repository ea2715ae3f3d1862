"""Times every version x case x direction and the whole training step, beside PyTorch where it is there; JSON lines out.

    python benchmarks/compare_versions.py --device cuda --out results.jsonl          the CIFAR-10 autoencoder's layers and step
    python benchmarks/compare_versions.py --device cuda --cases shared               the operations that all versions share
    python benchmarks/compare_versions.py --device emulated --cases small --out x.jsonl    a rehearsal: marked as no measurement

Every result is compared with a float64 reference before it is timed and must have the same bits after; a wrong kernel is
reported, never timed. Each run on a GPU finds a cold L2 cache. Beside each time stands what the device's ceilings allow
(benchmarks/roofline.py). benchmarks/report.py makes the Markdown page from the JSON lines, and a chart.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "benchmarks")]

import cases as case_list  # noqa: E402
import harness  # noqa: E402
import oracle  # noqa: E402
import roofline  # noqa: E402
import shared_cases  # noqa: E402
from cases import Case  # noqa: E402
from machine import about_device, about_run  # noqa: E402

Array = NDArray[Any]
WARM_UP = 3
FEW_STEPS, MOST_STEPS = 20, 400  # of an epoch of the whole-step benchmark
# Relative L2 error of one operation. Float32 sums of a million terms stay below 2e-5. Tensor cores truncate where they add
# products to the sum: an estimated 1e-5 to 2e-5 over some 2,000 terms.
TOLERANCE = {"fp32": 2e-5, "tf32": 1e-4, "fp16": 1e-4, "bf16": 1e-4}
STEP_TOLERANCE = {"fp32": 1e-5, "tf32": 5e-3, "fp16": 5e-3, "bf16": 2e-2}  # of a loss, relative


class Writer:
    """Prints a line per result and appends it to the JSON lines file at once, so that an interrupted run keeps what it has."""

    def __init__(self, path: Path | None, common: dict[str, Any]) -> None:
        self.file = path.open("a") if path else None
        self.common = common
        self.wrong = 0

    def add(self, record: dict[str, Any]) -> None:
        record = self.common | record
        if self.file:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
        precision = record.get("precision", "fp32")
        named = record["version"] if precision in ("fp32", *record["version"].split()) else f"{record['version']} {precision}"
        what = f"{named:<28} {record.get('layer') or record['case']:<26} {record['entry']:<24}"
        if "refused" in record:
            print(f"{what} refused: {record['refused']}")
        elif "wrong" in record:
            self.wrong += 1
            print(f"{what} WRONG: {record['wrong']}")
        else:
            rate = f"{record['gflops']:9.1f} GFLOP/s" if record.get("gflops") else f"{record.get('gbytes_per_s', 0):9.1f} GB/s"
            least = record.get("roofline_ms", 0.0)
            share = f"   at least {least:.3g} ms ({record['bound']})" if least else ""
            share += f" {100 * least / record['milliseconds']:4.0f} %" if least and record["measured"] else ""
            note = "" if record["measured"] else f"   ({record['note']})"
            print(f"{what} {record['milliseconds']:10.4f} ms {rate}{share}{note}", flush=True)


def spread(milliseconds: Array) -> dict[str, Any]:
    p10, median, p90 = (float(np.percentile(milliseconds, p)) for p in (10, 50, 90))
    return {"milliseconds": median, "p10": p10, "p90": p90, "repeats": len(milliseconds)}


def relative_error(got: Array, expected: Array) -> float:
    scale = float(np.linalg.norm(expected))
    return float(np.linalg.norm(got.astype(np.float64) - expected)) / (scale or 1.0)


class References:
    """The expected outputs of one case, computed once for all versions."""

    def __init__(self) -> None:
        self.case: Case | None = None
        self.cache: dict[str, dict[str, Array]] = {}

    def get(self, case: Case, entry: str, inputs: dict[str, Array]) -> dict[str, Array]:
        if self.case != case:
            self.case, self.cache = case, {}
        key = "conv2d_backward" if case.family == "conv2d" and entry != "conv2d_forward" else entry
        if key not in self.cache:
            self.cache[key] = oracle.compute(key, case.attributes, inputs)
        return self.cache[key]


def measure(core: Any, target: harness.Target, case: Case, entry: str, repeat: int, references: References) -> dict[str, Any]:
    refused = core.why_not(target.device, target.version, entry, case.attributes)
    if refused:
        return {"refused": refused}
    inputs = harness.make_inputs(case, "floats")
    words, outputs = (part.split() for part in harness.VARIANTS[entry][0])
    given = {w: harness.to_version(w, inputs[w], target) for w in words if not w.endswith("*")}
    if "saved*" in words:
        given |= harness.from_forward(core, target, case, inputs)
    expected = references.get(case, entry, inputs)
    results = core.call(target.device, target.version, entry, case.attributes, given, outputs, False, repeat + WARM_UP)
    limit = TOLERANCE.get(oracle.operand_precision(case.attributes), TOLERANCE["fp32"])
    worst = 0.0
    for name in [*outputs, *(k for k in given if k in expected and k not in ("y", "index"))]:
        got = harness.from_version(name, results[name], expected[name].shape, target)
        error = relative_error(got, expected[name])
        if not error <= limit + harness.of_summed_taps(case, name):
            return {"wrong": f"'{name}' has a relative error of {error:.2e}"}
        worst = max(worst, error)
    record = spread(results["milliseconds"][WARM_UP:]) | {"error": worst, "verified_before": True, "verified_after": True}
    needs = core.needs(target.device, target.version, entry, case.attributes)
    return record | rates(record["milliseconds"], case.flops(entry), 4 * case.elements(entry)) | {"workspace": needs["workspace"]}


def rates(milliseconds: float, flops: int, moved: int) -> dict[str, Any]:
    found: dict[str, Any] = {"flops": flops, "bytes": moved}
    if milliseconds > 0:
        found |= {"gflops": flops / milliseconds / 1e6, "gbytes_per_s": moved / milliseconds / 1e6}
    return found


def measure_shared(core: Any, target: harness.Target, prepared: shared_cases.Prepared, repeat: int) -> dict[str, Any]:
    """The same for an operation that all versions share."""
    case = prepared.case
    refused = core.why_not(target.device, target.version, case.entry, case.public)
    if refused:
        return {"refused": refused}
    run = (target.device, target.version, case.entry, case.public, prepared.given, prepared.outputs, False)
    problem = shared_cases.wrong(prepared, target, core.call(*run))
    if problem:
        return {"wrong": problem}
    results = core.call(*run, repeat + WARM_UP)
    record = spread(results["milliseconds"][WARM_UP:]) | {"verified_before": True, "verified_after": True}
    needs = core.needs(target.device, target.version, case.entry, case.public)
    return record | rates(record["milliseconds"], 0, prepared.moved) | {"workspace": needs["workspace"]}


def chosen_cases(words: list[str], batch: int) -> list[Case]:
    lists = {
        "cifar10": case_list.CIFAR10,
        "models": case_list.MODELS,
        "small": case_list.SMALL_CONVS,
        "reduced": case_list.MODELS_REDUCED,
    }
    words = [word for word in words if word != "shared"]
    found = [case for word in words for case in (lists[word] if word in lists else [case_list.find(word)])]
    return [case_list.rebatched(case, batch) for case in found] if batch else found


def in_every_precision(case: Case, core: Any, targets: list[harness.Target], wanted: list[str]) -> list[tuple[str, Case]]:
    """The case in float32 and, for a convolution, in the other precisions that some version computes in."""
    found = [("fp32", case)] if "fp32" in wanted else []
    for name in [p for p in wanted if p != "fp32" and case.family == "conv2d"]:
        other = case_list.precise(case, name)
        if any(not core.why_not(t.device, t.version, case.entries[0], other.attributes) for t in targets):
            found.append((name, other))
    return found


def time_operations(core: Any, targets: list[harness.Target], options: argparse.Namespace, writer: Writer, ends: float) -> None:
    references = References()
    baseline = load_baseline(options)
    for plain in chosen_cases(options.cases, options.batch):
        for precision, case in in_every_precision(plain, core, targets, options.precisions):
            for entry in case.entries:
                if options.entries and entry not in options.entries:
                    continue
                about = {"kind": "op", "case": plain.name, "layer": plain.layer, "entry": entry}
                for target in targets:
                    if time.monotonic() > ends:
                        print("the time given is over; the rest is left out")
                        return
                    if precision != "fp32" and core.why_not(target.device, target.version, entry, case.attributes):
                        continue  # a version without tensor cores is not asked once a layer
                    try:
                        record = measure(core, target, case, entry, options.repeat, references)
                    except core.Error as e:
                        record = {"wrong": str(e)}
                    record |= {"version": target.version, "device": target.device, "precision": precision}
                    writer.add(about | note_for(target.device) | record | ceiling(options.limits, record))
                if baseline and precision == "fp32":
                    for record in baseline.operations(plain, entry, options.repeat):
                        record = {"flops": plain.flops(entry), "bytes": 4 * plain.elements(entry)} | record
                        writer.add(about | record | ceiling(options.limits, record))


def time_shared(core: Any, targets: list[harness.Target], options: argparse.Namespace, writer: Writer, ends: float) -> None:
    emulated = any(t.device.startswith("emulated") for t in targets)
    elements = options.elements or (1 << 12 if emulated else 1 << 22)
    for case in shared_cases.cases(elements):
        if options.entries and case.entry not in options.entries:
            continue
        prepared = None
        for target in targets:
            if time.monotonic() > ends:
                print("the time given is over; the rest is left out")
                return
            if not shared_cases.fits(case, target):
                continue
            prepared = prepared or shared_cases.prepare(core, case)
            try:
                record = measure_shared(core, target, prepared, options.repeat)
            except core.Error as e:
                record = {"wrong": str(e)}
            about = {"kind": "op", "case": str(case), "layer": case.name, "entry": case.entry, "precision": "fp32"}
            record |= {"version": target.version, "device": target.device}
            writer.add(about | note_for(target.device) | record | ceiling(options.limits, record))


def ceiling(limits: roofline.Ceilings | None, record: dict[str, Any]) -> dict[str, Any]:
    """What the device would allow, for a result that was timed."""
    if limits is None or "milliseconds" not in record or not record.get("bytes"):
        return {}
    found = roofline.estimate(
        limits, record["flops"], record["bytes"], record.get("precision", "fp32"), record.get("workspace", 0)
    )
    return {k: v for k, v in found.items() if k != "intensity" or record["flops"]}


def note_for(device: str) -> dict[str, Any]:
    if device.startswith("emulated"):
        return {"measured": False, "note": "emulated, not a measurement"}
    return {"measured": True, "note": ""}


def time_steps(targets: list[harness.Target], options: argparse.Namespace, writer: Writer, ends: float) -> None:
    """Whole epochs of the CIFAR-10 autoencoder: gather, forward, loss, backward, update. Versions must tell the same losses."""
    import warploom as wl
    from networks import smooth_images

    emulated = any(t.device.startswith("emulated") for t in targets)
    batch = options.batch or (2 if emulated else 64)
    images = smooth_images(batch * (1 if emulated else FEW_STEPS), (3, 32, 32))
    expected = cpu_losses(images, batch) if targets else []
    for target, precision in [(t, p) for p in options.precisions for t in targets]:
        if time.monotonic() > ends:
            print("the time given is over; the remaining steps are left out")
            return
        model = wl.models.cifar10_autoencoder()
        run = {"version": target.version, "device": target.device, "batch_size": batch, "seed": 0, "precision": precision}
        try:
            model.compile(optimizer=wl.optim.SGD(lr=1e-3), loss="mse", **run)
        except (wl.UnsupportedError, wl.DeviceError) as e:
            if precision == "fp32" or "precision" not in str(e):
                print(f"{target.version} {precision}: {e}")
            continue  # this version, or this GPU, has no such precision
        start = model.state_dict()
        first = model.fit(images, epochs=2, verbose=False)
        losses = [float(v) for v in first["loss"]]
        record: dict[str, Any] = {"version": target.version, "device": target.device, "batch": batch, "losses": losses}
        record["precision"] = precision
        record |= {"kind": "step", "case": f"cifar10_autoencoder_b{batch}", "layer": "whole step", "entry": "train_step"}
        if not np.max(np.abs(np.array(losses) / expected - 1)) <= STEP_TOLERANCE[precision]:
            writer.add(record | {"wrong": f"losses {losses} differ from {expected}"})
            continue
        steps, epochs = epoch_length(first["seconds"][-1] / len(images) * batch, options, emulated)
        history = model.fit(np.resize(images, (steps * batch, *images.shape[1:])), epochs=epochs, verbose=False)
        model.compile(optimizer=wl.optim.SGD(lr=1e-3), loss="mse", **run)
        model.load_state_dict(start)
        again = [float(v) for v in model.fit(images, epochs=2, verbose=False)["loss"]]
        if again != losses:
            writer.add(record | {"wrong": f"after the timing the losses were {again}, before it {losses}"})
            continue
        record |= spread(np.array(history["seconds"][1:]) / steps * 1e3) | {"verified_before": True, "verified_after": True}
        record |= {"steps_timed_at_once": steps}
        flops = step_flops(batch)
        record |= {"flops": flops, "gflops": flops / record["milliseconds"] / 1e6, "planned_bytes": model.memory()["total"]}
        record |= step_ceiling(options.limits, batch, precision)
        record["images_per_second"] = batch / record["milliseconds"] * 1e3
        writer.add(record | note_for(target.device))
    baseline = load_baseline(options)
    for record in baseline.steps(batch, options.repeat, options.precisions) if baseline else ():
        about = {"kind": "step", "case": f"cifar10_autoencoder_b{batch}", "layer": "whole step", "entry": "train_step"}
        if "milliseconds" in record:
            record |= {"flops": step_flops(batch), "gflops": step_flops(batch) / record["milliseconds"] / 1e6}
            record |= step_ceiling(options.limits, batch, record["precision"])
        writer.add(about | record)


def cpu_losses(images: Array, batch: int) -> list[float]:
    """What the first two epochs tell in float32 by the host's kernels: of no version, so that any can be timed first."""
    import warploom as wl

    model = wl.models.cifar10_autoencoder()
    model.compile(optimizer=wl.optim.SGD(lr=1e-3), loss="mse", device="cpu", batch_size=batch, seed=0)
    return [float(v) for v in model.fit(images, epochs=2, verbose=False)["loss"]]


def epoch_length(seconds_a_step: float, options: argparse.Namespace, emulated: bool) -> tuple[int, int]:
    """(steps, epochs) of the timed run: an epoch long enough that what happens once an epoch does not show, all of them about
    two seconds; the first epoch is a warm-up."""
    if emulated:
        return 1, 2
    steps = options.steps or min(max(int(2.0 / options.repeat / seconds_a_step), FEW_STEPS), MOST_STEPS)
    return steps, options.repeat + 1


def step_convs(batch: int) -> list[Case]:
    plain = [c for c in case_list.CIFAR10 if c.family == "conv2d" and c.attributes["activation"] == "none"]
    return [case_list.rebatched(c, batch) for c in plain]


def step_ceiling(limits: roofline.Ceilings | None, batch: int, precision: str) -> dict[str, Any]:
    """The sum over a step's convolutions; what lies between them can be fused away."""
    if limits is None or not limits.gflops(precision):
        return {}
    convs = step_convs(batch)
    parts = [(c, e) for c in convs for e in ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")]
    parts.remove((convs[0], "conv2d_backward_input"))
    least = sum(roofline.estimate(limits, c.flops(e), 4 * c.elements(e), precision)["roofline_ms"] for c, e in parts)
    return {"roofline_ms": least, "bound": "sum of the convolutions"}


def step_flops(batch: int) -> int:
    """Forward, and both gradients of every convolution; the first one needs no input gradient."""
    convs = step_convs(batch)
    return sum(3 * c.flops("conv2d_forward") for c in convs) - convs[0].flops("conv2d_forward")


def load_baseline(options: argparse.Namespace) -> Any:
    """PyTorch on the same kind of device, or None and a line that says why."""
    if options.torch == "off" or options.device.startswith("emulated"):
        return None
    try:
        import pytorch_baseline

        return pytorch_baseline.PyTorchBaseline(options.device, options.ways)
    except ImportError as e:
        print(f"no comparison with PyTorch: {e}")
        return None


def find_limits(wanted: str, device: str, name: str) -> roofline.Ceilings | None:
    if wanted == "none":
        return None
    if wanted == "measured":
        found = roofline.measured_ceilings(device)
        if found is None:
            raise SystemExit(f"--ceilings measured needs PyTorch on {device}; a GPU's name, auto or none need nothing")
        print(f"measured ceilings: {found.fp32:,.0f} GFLOP/s fp32, {found.bandwidth:,.0f} GB/s")
        return found
    if wanted == "auto":
        found = roofline.ceilings(name)
        if found is None and device.startswith("cuda"):
            print(f"no ceilings are known for {name}: no estimates. --ceilings measured finds them with PyTorch")
        return found
    if wanted not in roofline.GPUS:
        raise SystemExit(f"no ceilings are known for '{wanted}'; known are {', '.join(roofline.GPUS)}")
    return roofline.GPUS[wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", default="", help="cpu, cuda, emulated, emulated:checked; default: cuda where there is one, else cpu"
    )
    parser.add_argument("--versions", nargs="*", default=[], help="default: every version of the device")
    parser.add_argument(
        "--cases", nargs="*", default=["cifar10"], help="cifar10, models, small, reduced, shared, or names of cases"
    )
    parser.add_argument("--precisions", nargs="*", choices=list(STEP_TOLERANCE), default=list(STEP_TOLERANCE))
    parser.add_argument("--elements", type=int, default=0, help="of a shared operation's inputs; default: 4 million")
    parser.add_argument(
        "--ceilings", default="auto",
        help="auto (the table of roofline.py by the device's name), measured (with PyTorch, here), none, or a GPU of the table",
    )  # fmt: skip
    parser.add_argument("--entries", nargs="*", default=[], help="default: every direction")
    parser.add_argument("--batch", type=int, default=0, help="default: the model's own")
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--steps", type=int, default=0, help="steps of one timed epoch; default: a tenth of a second of them")
    parser.add_argument("--step", choices=["on", "off", "only"], default="on", help="the whole training step")
    parser.add_argument("--torch", choices=["auto", "off", "only"], default="auto", help="PyTorch beside it, not, or alone")
    parser.add_argument(
        "--references",
        choices=["numpy", "torch"],
        default="numpy",
        help="what computes in float64; torch: on the GPU where it can",
    )
    parser.add_argument(
        "--ways", nargs="*", choices=["eager", "graph", "compile", "whole", "tuned"], default=["eager", "graph"],
        help="how PyTorch runs the step; compile: torch.compile(mode='max-autotune'), minutes; whole: compiled, channels_last "
        "and the optimizer in one CUDA graph, the fairest rival; tuned: the same after max-autotune",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=1e9, help="stop starting new measurements after this time")
    parser.add_argument("--out", type=Path, help="JSON lines are appended here")
    options = parser.parse_args()

    from warploom import _core

    found = harness.targets(_core)
    options.device = options.device or next((t.device for t in found if t.device == "cuda"), "cpu")
    targets = [t for t in found if t.device == options.device and (not options.versions or t.version in options.versions)]
    targets.sort(key=lambda t: options.versions.index(t.version) if options.versions else 0)  # in the order that was asked for
    if options.torch == "only":
        targets = []
    elif not targets:
        there = ", ".join(map(str, found))
        print(f"no version {' '.join(options.versions)} on device '{options.device}'; there are: {there}", file=sys.stderr)
        return 2
    about = about_device(_core, options.device)
    options.limits = find_limits(options.ceilings, options.device, str(about["device_name"]))
    if options.references == "torch":
        import torch_references

        torch_references.install()
    writer = Writer(options.out, about_run(ROOT) | about | {"seed": 0})
    ends = time.monotonic() + options.seconds
    if options.step != "only":
        time_operations(_core, targets, options, writer, ends)
        if "shared" in options.cases:
            time_shared(_core, targets, options, writer, ends)
    if options.step != "off":
        time_steps(targets, options, writer, ends)
    if writer.wrong:
        print(f"{writer.wrong} results were wrong and not timed", file=sys.stderr)
    return 1 if writer.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
