"""What `warploom profile` says in sentences, of one version and of several side by side."""

from __future__ import annotations

import pytest
import warploom as wl
from rich.cells import cell_len
from warploom.cli import main
from warploom.kernel_tools.counters import Kernel, Line, Parting, Traffic
from warploom.kernel_tools.profile import Profile
from warploom.kernel_tools.verdict import verdict

COUNTING = any(d["usable"] for d in wl.devices() if d["name"] == "emulated:counting")
needs_counting = pytest.mark.skipif(not COUNTING, reason="the counting emulated device was not built (WARPLOOM_COUNTING=OFF)")


def profile(lines: list[Line], partings: list[Parting] = [], *, counted: int = 2) -> Profile:  # noqa: B006
    traffic: dict[tuple[str, str], Traffic] = {}
    for line in lines:
        traffic[line.space, line.action] = traffic.get((line.space, line.action), Traffic()) + line.traffic
    kernel = Kernel(
        "conv.conv2d_forward", "k", (8, 1, 1), (32, 1, 1), 1, 0, 0, 8, counted, 0, 0, 0, 0, 0, {}, 10, 320, 100,
        sum(p.divergent for p in partings), traffic, lines, partings,
    )  # fmt: skip
    return Profile("net", "v1", 4, "fp32", [kernel], [], {})


def line(place: int, space: str, action: str, moved: int, ideal: int) -> Line:
    return Line(f"kernels/v1/a.cu:{place}", "f", space, action, 4, Traffic(10, 320, 1280, moved, ideal))


def test_nothing_stands_out() -> None:
    said = verdict(
        profile([line(3, "global", "load", 40, 40), line(4, "shared", "store", 10, 10)], [Parting("x:9", "f", 100, 10)])
    )
    assert len(said) == 1
    assert said[0].startswith("nothing stands out")


def test_the_worst_lines_are_named_with_their_share() -> None:
    said = verdict(
        profile(
            [
                line(3, "global", "load", 320, 40), line(5, "global", "store", 40, 40), line(77, "shared", "store", 33, 10),
                line(78, "shared", "load", 67, 67), line(79, "shared", "load", 2, 1),  # too little to matter
            ],
            [Parting("kernels/v1/a.cu:9", "f", 100, 50)],
        )
    )  # fmt: skip
    assert said == [
        "v1/a.cu:3: loads touch 8.0 times the sectors they need (78% of all device traffic is in excess)",
        "v1/a.cu:77: stores conflict 3.3-fold in shared memory (23% of all wavefronts are in excess)",
        "v1/a.cu:9: the lanes of a warp part in 50% of the times it comes here",
    ]


def test_a_line_that_two_kernels_run_is_one() -> None:
    a, b = profile([line(3, "global", "load", 80, 40)]), profile([line(3, "global", "load", 40, 40)])
    both = Profile("net", "v1", 4, "fp32", [*a.kernels, *b.kernels], [], {})
    assert verdict(both) == ["v1/a.cu:3: loads touch 1.5 times the sectors they need (33% of all device traffic is in excess)"]


@needs_counting
def test_one_version_on_a_screen_of_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["profile", "--version", "v3", "--layer", "conv2", "--direction", "forward", "--batch-size", "2"]) == 0
    text = capsys.readouterr().out
    assert max(map(cell_len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    assert "stores conflict 3.3-fold in shared memory" in flat  # what the lane layout of v3's halo gives
    assert "32-byte sectors moved over the fewest" in flat  # the legend
    assert "Counts, not times" in flat


@needs_counting
def test_versions_side_by_side(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    common = ["--layer", "conv2", "--direction", "forward", "--batch-size", "2"]
    assert main(["profile", "--version", "v1,v3", *common]) == 0
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert [row[1] for row in rows if len(row) > 3 and row[3] in ("KiB", "MiB", "GiB")] == ["v1", "v3"]
    assert "v1 asks device memory for" in " ".join(text.split())
    assert main(["profile", "--version", "v1,v3", "--json", "x.json", *common]) == 2
    assert "--json writes the counts of one version" in capsys.readouterr().err
