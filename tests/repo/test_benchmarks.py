"""The benchmark harness: estimates by hand, the operations it times, and what the report makes of records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import cases  # noqa: E402
import compare_versions  # noqa: E402
import report  # noqa: E402
import roofline  # noqa: E402
import shared_cases  # noqa: E402
import shared_ops  # noqa: E402


def test_estimates_are_the_larger_of_two_times() -> None:
    limits = roofline.Ceilings(10_000, 0, 80_000, 1_000, bf16=False)
    by_arithmetic = roofline.estimate(limits, 1e9, 1e6)
    assert by_arithmetic["roofline_ms"] == pytest.approx(0.1)
    assert (by_arithmetic["bound"], by_arithmetic["intensity"]) == ("arithmetic", 1000)
    by_memory = roofline.estimate(limits, 1e6, 1e9)
    assert by_memory["roofline_ms"] == pytest.approx(1.0)
    assert by_memory["bound"] == "memory"
    assert roofline.estimate(limits, 1e9, 1e6, workspace=1e9)["roofline_ms_with_workspace"] == pytest.approx(2.001)
    assert roofline.estimate(limits, 8e9, 1e6, "fp16")["roofline_ms"] == pytest.approx(0.1)
    assert [limits.gflops(p) for p in ("fp32", "tf32", "bf16", "fp16")] == [10_000, 0, 0, 80_000]


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("Tesla T4", 320), ("NVIDIA A100-SXM4-40GB", 1_555), ("NVIDIA A100-SXM4-80GB", 1_935), ("NVIDIA L4", 300),
        ("NVIDIA GeForce RTX 4090", 1_008), ("NVIDIA H100 80GB HBM3", 3_352), ("NVIDIA H100 PCIe", 2_039), ("NVIDIA H200", 4_800),
        ("NVIDIA B200", 8_000), ("NVIDIA L40S", None), ("Intel(R) Xeon(R)", None),
    ],
)  # fmt: skip
def test_gpus_are_known_by_their_names(name: str, bandwidth: int | None) -> None:
    found = roofline.ceilings(name)
    assert (found.bandwidth if found else None) == bandwidth


def test_a_step_counts_every_convolution_once() -> None:
    per_image = compare_versions.step_flops(64) / 64
    macs = 3 * 256 * 32**2 + 256 * 128 * 16**2 + 128 * 128 * 8**2 + 128 * 256 * 16**2 + 256 * 3 * 32**2
    assert per_image == 2 * 9 * (3 * macs - 3 * 256 * 32**2)
    assert compare_versions.step_ceiling(roofline.GPUS["H100"], 64, "fp32")["roofline_ms"] == pytest.approx(0.985, abs=0.05)


@pytest.fixture(scope="module")
def chosen() -> list[shared_ops.SharedCase]:
    return list(shared_cases.cases(4096))


def test_every_shared_operation_is_timed(chosen: list[shared_ops.SharedCase]) -> None:
    assert {c.entry for c in chosen} == shared_ops.entries_with_reference()
    count = next(c for c in chosen if c.entry == "adam_update")
    assert shared_cases.size_of(shared_cases.enlarged(count, 200_000).draw()) == pytest.approx(200_000, rel=0.5)


def test_errors_of_a_shared_operation_show(core: Any, chosen: list[shared_ops.SharedCase]) -> None:
    import harness

    cpu = next(t for t in harness.targets(core) if t.device == "cpu")
    case = next(c for c in chosen if c.entry == "bias_activation")
    prepared = shared_cases.prepare(core, case)
    found = compare_versions.measure_shared(core, cpu, prepared, 1)
    assert found["verified_after"], found
    assert found["bytes"] == prepared.moved
    prepared.expected["y"] = prepared.expected["y"] + 1.0
    assert "elements are wrong" in compare_versions.measure_shared(core, cpu, prepared, 1)["wrong"]


def test_the_report_marks_what_was_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = {"device_name": "NVIDIA H100", "commit": "abc", "uncommitted": False, "kind": "op", "layer": "conv2", "case": "c"}
    common |= {"entry": "conv2d_forward", "precision": "fp32", "milliseconds": 2.0, "p10": 1.9, "p90": 2.1}
    limits = roofline.estimate(roofline.GPUS["H100"], 67e9, 1e6)
    timed = common | {"version": "v4", "measured": True, "gflops": 33_500.0} | limits
    results = tmp_path / "r.jsonl"
    results.write_text(json.dumps(timed) + "\n" + json.dumps(timed | {"version": "v3", "measured": False}) + "\n")
    assert report.main([str(results), "--png", str(tmp_path / "roofline.png")]) == 0
    page = capsys.readouterr().out
    assert "| conv2 | forward | 2.000, 33.50 TF | 1, arithmetic | 50 % |" in page
    assert "v3" not in page
    assert (tmp_path / "roofline.png").read_bytes()[:4] == b"\x89PNG"
    results.write_text(json.dumps(timed | {"measured": False}) + "\n")
    assert report.main([str(results), "--png", str(tmp_path / "none.png")]) == 0
    page = capsys.readouterr().out
    assert "Nothing here was measured on a GPU" in page
    assert "| conv2 | forward | right |" in page
    assert "2.000" not in page
    assert not (tmp_path / "none.png").exists()


def test_precisions_only_where_a_version_has_them(core: Any) -> None:
    import harness

    emulated = [t for t in harness.targets(core) if t.device == "emulated"]
    case = cases.find("conv_1x32x12x12_to32_k3x3_s1_p1")
    old = [t for t in emulated if t.version in ("v1", "v4")]
    if not old:
        pytest.skip("no emulated device")
    every = ["fp32", "bf16"]
    assert [p for p, _ in compare_versions.in_every_precision(case, core, old, every)] == ["fp32"]
    assert [p for p, _ in compare_versions.in_every_precision(case, core, emulated, every)] == every


@pytest.mark.parametrize("entry", ["conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight"])
def test_the_baseline_computes_in_the_precision_it_is_timed_in(entry: str) -> None:
    torch = pytest.importorskip("torch")
    import pytorch_baseline

    baseline, case = pytorch_baseline.PyTorchBaseline("cpu"), cases.find("conv_1x32x12x12_to32_k3x3_s1_p1")
    for layout in ("nchw", "channels_last"):
        errors = {}
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            work, expected = baseline._operation(case, entry, layout, name)
            assert work().dtype == dtype
            errors[name] = baseline._error(work(), expected)
        assert errors["fp32"] < 2e-6
        assert 1e-4 < errors["bf16"] < 3e-2


def test_every_way_of_the_baselines_step_runs() -> None:
    pytest.importorskip("torch")
    import pytorch_baseline

    records = list(pytorch_baseline.PyTorchBaseline("cpu").steps(2, 2))
    assert {(r["precision"], "channels_last" in r["version"]) for r in records} == {
        (p, c) for p in ("fp32", "bf16") for c in (False, True)
    }
    assert not [r for r in records if "refused" in r]
