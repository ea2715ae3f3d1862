"""How far a command is: a bar on a terminal, lines elsewhere, nothing for what is quick or has been told to be quiet."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from warploom.cli import progress as module
from warploom.cli.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def run(clock: SimpleNamespace, progress: Progress, steps: int, each: float) -> None:
    with progress:
        count = progress.counting("encoding", 1200)
        for i in range(steps):
            clock.seconds += each
            count(12 * (i + 1))
        clock.seconds += each
        progress("clusters", 0.25)
        clock.seconds += 31.0
        progress("clusters", 0.5)


def test_less_than_one_a_second_is_no_zero(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for done in (1, 2, 3):
            progress("fitting", done, 8)
            clock.seconds += 40.0
    assert capsys.readouterr().err.splitlines() == ["fitting: 2/8  ETA 2:00", "fitting: 3/8  ETA 2:13"]


def test_lines_where_there_is_no_terminal(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    run(clock, progress := Progress(), 70, 1.0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "encoding: 360/1,200  12/s  ETA 1:10",
        "encoding: 720/1,200  12/s  ETA 0:40",
        "clusters: 50 %  ETA 0:32",
    ]
    assert progress.seconds == pytest.approx(102.0)


def test_quiet_says_nothing_there(clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    run(clock, Progress(quiet=True), 70, 1.0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("quiet", [False, True])
def test_a_bar_on_a_terminal(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    """Also with --json, whose document is on stdout."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    run(clock, Progress(quiet=quiet), 3, 2.0)
    shown = terminal.getvalue()
    assert "encoding" in shown
    assert "36/1,200  6/s  ETA 3:14" in shown
    assert "50 %  ETA 0:33" in shown
    assert shown.endswith("\x1b[2K")  # nothing of it stays


def test_what_is_quick_shows_nothing(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := io.StringIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    with Progress() as progress:
        for done in range(0, 100, 10):
            clock.seconds += 0.05
            progress("evaluating", done, 100)
    assert terminal.getvalue() == ""
