"""The counting emulated device: counts that follow from a sheet of paper, and `warploom profile`.

The kernels are in kernels/emulator/selftest/counted.cu. A sector is 32 bytes, a warp's request of 32 floats in a row 4 of them; a
shared wavefront is one word of each of 32 banks.
"""

from __future__ import annotations

import ctypes
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warploom.ground import emulated_builds

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "kernels" / "emulator" / "selftest" / "counted.cu"


class SelfTest:
    """A case of the self-test library, and what the device counted meanwhile: {kernel: row}."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        for name in ("warploom_selftest_case", "warploom_selftest_run", "warploom_counters"):
            getattr(self.library, name).restype = ctypes.c_char_p
        self.names: list[str] = []
        while (name := self.library.warploom_selftest_case(len(self.names))) is not None:
            self.names.append(name.decode())

    def count(self, case: str, blocks: int = 0) -> dict[str, dict[str, Any]]:
        self.library.warploom_counters(f"start {blocks} run".encode())
        said = self.library.warploom_selftest_run(self.names.index(case)).decode()
        self.library.warploom_counters(b"stop")
        assert said == ""
        return {row["kernel"]: row for row in json.loads(self.library.warploom_counters(b"report"))}


@pytest.fixture(scope="module")
def selftest() -> SelfTest:
    return SelfTest(emulated_builds.ensure("selftest_counting"))


def device(row: dict[str, Any], action: str = "load") -> tuple[int, int, int, int]:
    t = row["global"][action]
    return t["requests"], t["lanes"], t["sectors"], t["ideal_sectors"]


def shared(row: dict[str, Any], action: str = "load") -> tuple[int, int, int]:
    t = row["shared"][action]
    return t["requests"], t["wavefronts"], t["ideal_wavefronts"]


def line_of(text: str) -> int:
    found = [number for number, line in enumerate(SOURCE.read_text().splitlines(), 1) if text in line]
    assert len(found) == 1, f"{text!r} stands in lines {found}"
    return found[0]


def at(row: dict[str, Any], text: str, action: str = "load") -> dict[str, Any]:
    """The counts of the one line that holds `text`."""
    found = [line for line in row["lines"] if line["line"] == line_of(text) and line["action"] == action]
    assert len(found) == 1, row["lines"]
    assert found[0]["file"].endswith("selftest/counted.cu")
    return found[0]


# 1024 floats are 32 requests of a warp. Stored in a row: 4 sectors each.
@pytest.mark.parametrize(
    ("case", "load"),
    [
        ("copy", (32, 1024, 128, 128)),
        ("copy_misaligned", (32, 1024, 160, 128)),  # one float further: a fifth sector
        ("copy_stride_2", (32, 1024, 256, 128)),  # every other float: 8 sectors
        ("copy_stride_32", (32, 1024, 1024, 128)),  # each lane a sector of its own
        ("copy_broadcast", (32, 1024, 32, 32)),  # all lanes one float
    ],
)
def test_coalescing(selftest: SelfTest, case: str, load: tuple[int, ...]) -> None:
    row = selftest.count(f"counted/{case}")[case]
    assert device(row) == load
    assert device(row, "store") == (32, 1024, 128, 128)
    assert row["blocks_counted"] == row["blocks"] == 8
    assert row["divergent_branches"] == 0
    assert row["basic_block_lanes"] == 32 * row["basic_blocks"]


def test_tail(selftest: SelfTest) -> None:
    row = selftest.count("counted/copy_with_a_tail")["copy_with_a_tail"]
    assert device(row) == (32, 1000, 125, 125)  # the last warp has 8 floats: one sector
    assert (row["branches"], row["divergent_branches"]) == (32, 1)


# 256 items are 8 requests; float3 has no vector load: three requests of 4 bytes, 12 bytes apart.
@pytest.mark.parametrize(
    ("case", "counts", "access"),
    [
        ("copy_float4", (8, 256, 128, 128), 16),
        ("copy_float2", (8, 256, 64, 64), 8),
        ("copy_half2", (8, 256, 32, 32), 4),
        ("copy_half", (8, 256, 16, 16), 2),
        ("copy_float3", (24, 768, 288, 96), 4),
    ],
)
def test_widths(selftest: SelfTest, case: str, counts: tuple[int, ...], access: int) -> None:
    row = selftest.count(f"counted/{case}")[case]
    for action in ("load", "store"):
        assert device(row, action) == counts
        assert at(row, "y[i] = x[i];", action)["access_bytes"] == access  # the kernel's line, not that of a header


def test_transpose(selftest: SelfTest) -> None:
    rows = selftest.count("counted/transpose")
    for name, wavefronts in (("transpose_32", 1024), ("transpose_33", 32)):  # a column: all lanes in one bank, or in all banks
        assert shared(rows[name]) == (32, wavefronts, 32)
        assert shared(rows[name], "store") == (32, 32, 32)
        assert device(rows[name]) == device(rows[name], "store") == (32, 1024, 128, 128)
        assert rows[name]["barriers"] == 1
        assert rows[name]["static_shared"] == 4 * 32 * int(name[-2:])


# 16 bytes go in phases of 8 lanes, 8 bytes in phases of 16. Vectors 2 apart: two words of each bank in a phase; pairs 4 apart: 4.
@pytest.mark.parametrize(
    ("case", "counts"),
    [
        ("shared_float4", (1, 4, 4)),
        ("shared_float4_stride_2", (1, 8, 4)),
        ("shared_float2", (1, 2, 2)),
        ("shared_float2_stride_4", (1, 8, 2)),
        ("shared_float2_broadcast", (1, 2, 2)),
    ],
)
def test_shared_vectors(selftest: SelfTest, case: str, counts: tuple[int, ...]) -> None:
    assert shared(selftest.count("counted/shared_vectors")[case]) == counts


def test_branches(selftest: SelfTest) -> None:
    rows = selftest.count("counted/two_ways")
    row = rows["two_ways_divergent"]  # 40 lanes one way, 24 the other: the second warp parts and meets again
    assert (at(row, "v = x[i];")["requests"], at(row, "v = x[i];")["lanes"]) == (2, 40)
    assert (at(row, "v = 2.0f")["requests"], at(row, "v = 2.0f")["lanes"]) == (1, 24)
    assert device(row, "store") == (2, 64, 8, 8)
    assert (row["branches"], row["divergent_branches"]) == (2, 1)
    assert [p["line"] for p in row["partings"]] == [line_of("v = x[i];")]
    assert rows["two_ways_uniform"]["divergent_branches"] == 0


def test_loop_with_continue(selftest: SelfTest) -> None:
    """Nine taps, of which every lane leaves out one: nine requests of 4 sectors. Counting occurrences says 5.25."""
    row = selftest.count("counted/loop_with_continue")["loop_with_continue"]
    assert device(row) == (9, 256, 36, 36)
    assert (row["branches"] - 9, row["divergent_branches"]) == (9, 9)  # and the loop's own branch, nine times, together


def test_loop_with_different_trips(selftest: SelfTest) -> None:
    """1, 2, 3 or 4 rounds, twice over: four requests each time, then all lanes together."""
    row = selftest.count("counted/loop_with_different_trips")["loop_with_different_trips"]
    inner = at(row, "sum += x[k * 32 + i];")
    assert (inner["requests"], inner["lanes"]) == (8, 2 * (32 + 24 + 16 + 8))
    behind = at(row, "sum += x[128 + 32 * again + i];")
    assert (behind["requests"], behind["lanes"], behind["sectors"]) == (2, 64, 8)
    assert row["divergent_branches"] == 6  # the last lanes leave each loop together


def test_functions_that_are_called(selftest: SelfTest) -> None:
    """Four rounds: a quarter of the lanes calls the function, then all call it twice; it loads twice."""
    row = selftest.count("counted/calls")["calls"]
    assert device(row) == (4 * 3 * 2, 4 * 2 * (8 + 32 + 32), 4 * 3 * 2 * 4, 4 * (2 * 1 + 4 * 4))
    assert row["divergent_branches"] == 4


def test_barriers(selftest: SelfTest) -> None:
    row = selftest.count("counted/barriers_in_a_loop")["barriers_in_a_loop"]
    assert row["barriers"] == 6
    assert device(row) == (6, 192, 24, 24)
    assert shared(row, "store") == (6, 6, 6)
    assert (at(row, "sum += s[63 - i];")["requests"], at(row, "sum += s[63 - i];")["lanes"]) == (6, 120)
    assert device(row, "store") == (2, 40, 5, 5)
    assert row["divergent_branches"] == 4  # the second warp: three rounds, and the return


def test_shuffles_and_atomics(selftest: SelfTest) -> None:
    row = selftest.count("counted/shuffles")["shuffles"]
    assert (row["shuffles"], row["divergent_branches"]) == (4 * 5, 4)  # only the last `if` parts lanes
    assert device(row, "store") == (4, 4, 4, 4)
    row = selftest.count("counted/atomics")["atomics"]
    assert shared(row, "atomic") == (1, 4, 1)  # four lanes on each of eight words
    assert device(row, "atomic") == (1, 32, 4, 4)


def test_async_copies_and_ldmatrix(selftest: SelfTest) -> None:
    """Two stages of 8 rows of 64 bytes. Rows 64 bytes apart meet in the same banks, four and four: ldmatrix takes 4 wavefronts a
    matrix; with the vectors of each pair of rows exchanged, one."""
    rows = selftest.count("counted/async_copies_and_ldmatrix")
    for name, copied, wavefronts in (("async_plain", 64, 16), ("async_swizzled", 64, 4), ("async_half", 32, 4)):
        row = rows[name]
        assert device(row, "copy") == (2, copied, copied // 2, copied // 2)
        assert shared(row, "copy") == (2, 8, 8)  # what is not read is written all the same, as zeros
        assert shared(row) == (1, wavefronts, 4)
        assert row["matrix_loads"] == 1
        assert at(row, "load_matrices<4, false>")["requests"] == 1
        assert row["divergent_branches"] == 0


def test_matrix_multiplications(selftest: SelfTest) -> None:
    row = selftest.count("counted/matrix_multiplications")["matrix_multiplications"]
    assert row["matrix_multiplies"] == {"m16n8k16_bf16": 6}
    assert shared(row) == (2, 4, 4)  # .x2: sixteen lanes name rows
    assert row["divergent_branches"] == 1


def test_bulk_copies_and_wgmma(selftest: SelfTest) -> None:
    """One thread has 2048 bytes copied, in runs of 256, and a box of 4 rows of 128 bytes, of which one lies outside the tensor;
    four warps then multiply three times."""
    row = selftest.count("counted/bulk_copies_and_wgmma")["bulk_copies_and_wgmma"]
    assert device(row, "copy") == (8 + 3, 8 + 3, (2048 + 3 * 128) // 32, (2048 + 3 * 128) // 32)
    assert shared(row, "copy") == (8 + 4, (2048 + 4 * 128) // 128, (2048 + 4 * 128) // 128)
    assert row["matrix_multiplies"] == {"wgmma": 3}
    assert row["matrix_loads"] == 0


def test_local_arrays_are_no_traffic(selftest: SelfTest) -> None:
    row = selftest.count("counted/local_arrays")["local_arrays"]
    assert device(row) == device(row, "store") == (1, 32, 4, 4)
    assert shared(row) == (0, 0, 0)


def test_sampled_blocks(selftest: SelfTest) -> None:
    row = selftest.count("counted/copy", blocks=3)["copy"]
    assert (row["blocks"], row["blocks_counted"]) == (8, 3)
    assert device(row) == (12, 384, 48, 48)


def test_the_other_cases_run(selftest: SelfTest) -> None:
    """Every primitive is right in this build too, while it counts."""
    selftest.library.warploom_counters(b"start 0 run")
    names = [name for name in selftest.names if name.startswith("primitive/")]
    said = {name: selftest.library.warploom_selftest_run(selftest.names.index(name)).decode() for name in names}
    assert {name: text for name, text in said.items() if text} == {}
    assert len(json.loads(selftest.library.warploom_counters(b"report"))) >= len(names) // 2
    selftest.library.warploom_counters(b"stop")


# ---- The device, from Python ----


def test_same_results_and_counts_again() -> None:
    import warploom as wl
    from warploom.kernel_tools import counters

    rng = np.random.default_rng(1)
    x, w = rng.random((2, 3, 9, 9), dtype=np.float32), rng.random((5, 3, 3, 3), dtype=np.float32)
    expected = wl.ops.conv2d(x, w, padding=1, version="v3", device="emulated")
    reports = []
    for _ in range(2):
        with counters.counting() as counts:
            assert np.array_equal(wl.ops.conv2d(x, w, padding=1, version="v3", device=counters.DEVICE), expected)
        reports.append(counts.rows)
    assert reports[0] == reports[1]
    assert [k.call for k in counts.kernels] == ["conv2d_forward"]
    assert all(line.place.startswith("kernels/v3_tiled_nchw/") for line in counts.kernels[0].lines)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    from warploom.cli import main

    code = main(["profile", *arguments])
    return code, *capsys.readouterr()


def test_profile_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "profile.json"
    code, out, err = run(
        capsys, "--device", "emulated", "--version", "v4", "--layer", "conv3", "--direction", "forward", "--batch-size", "2",
        "--blocks", "2", "--json", str(path),
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "conv3.conv2d_forward" in out
    assert re.search(r"common/gemm/sgemm\.cuh:\d+", out), out
    record = json.loads(path.read_text())
    assert {row["call"] for row in record["kernels"]} == {"conv3.conv2d_forward"}
    gemm = next(row for row in record["kernels"] if row["kernel"].startswith("sgemm"))
    assert gemm["bytes_per_flop"] > 0
    assert 0 < gemm["blocks_counted"] <= 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--device", "cuda"), "ncu --set full"),
        (("--device", "cpu"), "profile runs on device emulated"),
        (("--layer", "conv9", "--batch-size", "1"), "there is no layer 'conv9' in cifar10_autoencoder; there are conv1,"),
        (("--layer", "conv2", "--direction", "sideways", "--batch-size", "1"), "unknown direction 'sideways'"),
        (("--layer", "pool1", "--batch-size", "1", "--version", "v3", "--kernel", "none"), "no kernel matches 'none'"),
    ],
)
def test_profile_says_what_is_wrong(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("version", ["v4", "v5", "v6", "v7"])
def test_matrix_products_are_coalesced_and_free_of_conflicts(version: str) -> None:
    """Two of the layers of benchmarks/emulator_counters.py: the evidence that needs no GPU, kept."""
    import warploom as wl
    from warploom.kernel_tools.profile import Profiler

    precision = "bf16" if version in ("v5", "v7") else "fp32"
    profiler = Profiler(wl.models.cifar10_autoencoder(), version, batch_size=4, precision=precision)
    directions = ("forward", "backward") if version == "v6" else ("forward", "backward_input", "backward_weight")
    for layer in ("conv2", "conv4"):
        for direction in directions:
            for k in profiler.run(layer, direction, blocks=1).kernels:
                assert k.coalescing <= 1.1, (layer, direction, k.name, k.coalescing)
                # v7 unpools over the ends of rows, where two pixels four apart may stand in the same banks.
                assert k.conflicts <= (1.02 if version == "v7" else 1.001), (layer, direction, k.name, k.conflicts)
