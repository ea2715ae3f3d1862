"""The model of time: its arithmetic by hand, that what is published is what it says, and predictions beside measurements."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import step_model  # noqa: E402
import step_pages  # noqa: E402
from gpu_constants import GPUS  # noqa: E402

STEPS = step_model.load()
H100 = GPUS["H100"]


def row(**changes: Any) -> dict[str, Any]:
    """A copy of 64 MiB to 64 MiB by a kernel that nobody knows: 16-byte accesses, 4 KiB a block."""
    plain = {
        "call": "copy", "kernel": "v9::copy_kernel", "algorithm": "", "touched": 2 << 26, "step_memory": 1 << 30,
        "precision": "fp32",
        "block": [256, 1, 1], "launches": 1, "blocks": 16384, "counted": 2, "static_shared": 0,
        "dynamic_shared": 0, "barriers": 0, "basic_blocks": 32, "matrix": {}, "flops": 0, "folded": False,
        "traffic": {"global_load": [16, 256], "global_store": [16, 256]},
    }  # fmt: skip
    return plain | changes


def test_a_copy_is_bound_by_the_memory() -> None:
    node = step_model.predict(row(), H100)
    missed = 1 - 50e6 / (1 << 30)
    assert node.critical == "DRAM"
    assert node.times["DRAM"] == pytest.approx((2 << 26) * missed / 3352e9 * 1e6)
    assert node.times["L2"] == pytest.approx((2 << 26) / 9700e9 * 1e6)
    assert node.microseconds == pytest.approx(H100.node + node.times["DRAM"])
    assert step_model.predict(row(step_memory=1), H100).critical == "L2"  # what fits stays in the cache


def test_a_matrix_product_is_bound_by_what_is_asked_most() -> None:
    products = row(
        matrix={"m16n8k16_bf16": 2 * 100_000}, precision="bf16", blocks=132, touched=1 << 20,
        traffic={"global_copy": [16, 256], "shared_load": [10, 10]},
    )  # fmt: skip
    node = step_model.predict(products, H100)
    assert node.critical == "tensor"
    assert node.times["tensor"] == pytest.approx(100_000 * 4096 / (4096 * 0.629) / 1.83e3)
    two_waves = step_model.predict(products | {"blocks": 133}, H100)
    assert two_waves.times["tensor"] == pytest.approx(2 * node.times["tensor"])
    faster = step_model.predict(products, replace(H100, sync_share=1.0))
    assert faster.times["tensor"] == pytest.approx(0.629 * node.times["tensor"])


def test_launches_are_found_in_the_static_report_under_their_functions() -> None:
    found = {"sgemm_tn": "v4::sgemm_kernel", "correlate_3x3": "v3::correlate_3x3_kernel", "v6::multiply": "v6::sgemm_kernel"}
    assert {launch: step_model.function_of(launch) for launch in found} == found
    assert step_model.function_of("v2::add_kernel") == "v2::add_kernel"
    # Every kernel that does most of a float32 step's arithmetic has a share of multiply-adds there.
    for version in ("v2", "v3", "v4"):
        nodes = [step_model.predict(r, H100) for r in STEPS["cifar10_autoencoder", 64, version, "fp32"]]
        for layer in ("conv2", "conv3", "conv4"):
            for direction in ("forward", "backward_input", "backward_weight"):
                of = [n for n in nodes if n.call == f"{layer}.conv2d_{direction}"]
                assert sum(n.times.get("FMA", 0.0) for n in of) > 10, (version, layer, direction)


def test_several_launches_share_an_operations_arithmetic() -> None:
    of = [
        r
        for r in STEPS["cifar10_autoencoder", 64, "v4", "fp32"]
        if r["call"] == "conv2.conv2d_forward" and "sgemm" in r["kernel"]
    ]
    assert len(of) > 1
    assert sum(r["flops"] for r in of) == pytest.approx(2 * 9 * 256 * 128 * 16 * 16 * 64)


def test_latencies_follow_each_other() -> None:
    rounds = row(blocks=1, barriers=2 * 128, touched=1 << 10, traffic={"global_load": [256, 256], "shared_store": [1, 1]})
    node = step_model.predict(rounds, H100)
    assert node.critical == "latency"
    assert node.times["latency"] == pytest.approx(128 * (265 + 29) / 1.83e3)
    serial = row(
        kernel="v5::sum_runs_kernel", blocks=1, traffic={"global_load": [2 * 8 * 132, 264]}, basic_blocks=0, touched=1 << 10
    )
    assert step_model.predict(serial, H100).times["latency"] == pytest.approx(132 / 4 * 265 / 1.83e3)


def test_a_launch_of_several_errands_takes_as_long_as_any_alone() -> None:
    """Many blocks of little work and four of much: the mean of all hides those."""
    light = {"blocks": 1000, "counted": 1000, "traffic": {"global_load": [8 * 1000, 8 * 1000]}, "basic_blocks": 1000}
    heavy = {"blocks": 4, "counted": 4, "traffic": {"global_load": [8 * 64 * 4, 8 * 64 * 4]}, "basic_blocks": 4 * 8000}
    whole = {
        "blocks": 1004, "counted": 1004, "traffic": {"global_load": [8 * (1000 + 64 * 4)] * 2}, "basic_blocks": 1000 + 4 * 8000,
    }  # fmt: skip
    mean = step_model.predict(row(**whole), H100)
    node = step_model.predict(row(**whole, alone=[light, heavy]), H100)
    assert node.times["issue"] == pytest.approx(8000 * 3 / 4 / 1.83e3)
    assert node.times["issue"] > 10 * mean.times["issue"]
    assert node.times["latency"] == pytest.approx(64 / 4 * 265 / 1.83e3)
    assert node.times["latency"] > mean.times["latency"]
    assert node.times["L2"] == mean.times["L2"]  # what all of them move together
    assert node.microseconds == H100.node + node.times["issue"]
    assert step_model.predict(row(**whole, alone=[light]), H100).times == mean.times


def test_launches_that_calls_share_are_counted_whole_and_by_call() -> None:
    shared = [r for r in STEPS[step_pages.GOAL] if "alone" in r]
    weights, rest = shared[0], shared[-1]
    assert rest["call"] == "sgd_update"
    for r in shared:
        assert r["counted"] == r["blocks"]
        parts = sum(part["blocks"] for part in r["alone"])
        assert parts < r["blocks"] if r is rest else parts == r["blocks"]  # also what no call left: biases, the counters
    assert weights["alone"][0]["call"] == "conv2.conv2d_forward"
    assert {part["call"] for part in rest["alone"]} == {f"conv{i}.conv2d_backward_weight" for i in range(1, 6)}
    # In all they read more than each run's sums: so many bytes of partial sums and of parameters.
    assert 4 * 751_875 < 32 * rest["traffic"]["global_load"][1] < 40e6


def test_the_warps_that_round_share_its_latency_and_issue_its_instructions() -> None:
    rounds = row(
        kernel="v7::conv2d_backward_weight_kernel", block=[768, 1, 1], blocks=132, precision="bf16", round_warps=11,
        matrix={"wgmma": 2 * 100}, flops=132 * 100 * 2 * 64 * 64 * 16, traffic={"shared_store": [2 * 1100, 2 * 1100]},
    )  # fmt: skip
    times = step_model.predict(rounds, H100).times
    assert times["rounding"] == pytest.approx(100 * (36 * 4 + 29) / 1.83e3)
    assert times["issue"] == pytest.approx((4 * 100 * 106 / 8 + 36 * 1100) / 4 / 1.83e3)
    two = step_model.predict(rounds | {"round_warps": 2}, H100).times
    assert two["rounding"] == pytest.approx(5.5 * times["rounding"])
    assert two["issue"] == times["issue"]


def test_v7_rounds_where_a_pool_is_undone_alone() -> None:
    """Maps of 16 bits come as halos; dy behind a pool has to be put in its places."""
    nodes = step_model.predict_all(STEPS[step_pages.GOAL], H100)
    rounding = {n.call: n.times["rounding"] for n in nodes if n.kernel.startswith("v7::conv")}
    assert rounding["conv2.conv2d_forward"] == rounding["conv3.conv2d_backward_input"] == 0.0
    assert rounding["conv2.conv2d_backward_weight"] > 10.0
    assert rounding["conv2.conv2d_backward_input"] > 10.0
    warps = {r["call"]: r["round_warps"] for r in STEPS[step_pages.GOAL] if "round_warps" in r}
    assert warps["conv2.conv2d_backward_weight"] == 11
    assert warps["conv2.conv2d_backward_input"] == 2
    assert sum(n.launches for n in nodes) == 18
    for what_if in step_model.WHAT_IFS:
        closed = step_model.predict_all(STEPS[step_pages.GOAL], H100, frozenset([what_if]))
        assert step_model.total(closed) < step_model.total(nodes), what_if


def test_what_is_published_is_what_the_model_says() -> None:
    assert step_pages.RESULTS.read_text() == step_pages.results(STEPS), "run python benchmarks/step_model.py --all"
    assert step_pages.PAGE.read_text() == step_pages.page(STEPS), "run python benchmarks/step_model.py --all"


@pytest.mark.parametrize("step", [("cifar10_autoencoder", 64, "v7", "bf16"), ("cifar10_autoencoder", 64, "v5", "tf32")])
def test_what_a_gpu_lacks_is_refused(
    step: step_model.Step, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert step_model.why_not(step, "T4")
    monkeypatch.setattr(sys, "argv", ["step_model.py", "--gpu", "T4", "--version", step[2], "--precision", step[3]])
    assert step_model.main() == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def measured(tmp_path: Path, change: Any = lambda rows: rows) -> tuple[str, int]:
    """A made-up GPU that takes 1.5 times as long as predicted."""
    about = {
        "model": "cifar10_autoencoder",
        "batch": 64,
        "version": "v7",
        "precision": "bf16",
        "device_name": "NVIDIA H100 80GB HBM3",
    }
    nodes = step_model.predict_all(STEPS[step_pages.GOAL], H100)
    names = [(n.kernel, n.microseconds / n.launches) for n in nodes for _ in range(n.launches)]
    rows = [
        about | {"kind": "node", "measured": True, "index": i, "kernel": f"void warploom::{kernel}<int>(int)", "us": 1.5 * us}
        for i, (kernel, us) in enumerate(names)
    ]
    rows.append(about | {"kind": "step", "measured": True, "milliseconds": 1.5e-3 * step_model.total(nodes)})
    file = tmp_path / "r.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in change(rows)))
    return step_pages.beside(STEPS, file)


def test_predictions_stand_beside_measurements(tmp_path: Path) -> None:
    text, found = measured(tmp_path)
    assert found == 19
    lines = [line for line in text.splitlines() if line.startswith("| ") and "predicted us" not in line]
    assert all(line.endswith("| 1.50 |") for line in lines)
    assert "the step" in lines[0]


def test_other_kernels_than_counted_are_compared_by_name(tmp_path: Path) -> None:
    text, found = measured(tmp_path, lambda rows: rows[:2] + rows[3:])  # errands once instead of twice
    assert "compared by name" in text
    assert "v5::run_errands_kernel (2, measured 1)" in text
    assert 8 < found < 19


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    text, found = measured(tmp_path, lambda rows: [r | {"device_name": "NVIDIA B200"} for r in rows])
    assert found == 0
    assert "no prediction of cifar10_autoencoder 64 v7 bf16 on NVIDIA B200" in text
    text, found = measured(tmp_path, lambda rows: [r | {"measured": False} for r in rows])
    assert found == 0  # emulated runs are no measurements
