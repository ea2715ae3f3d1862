"""Tables: never wider than the terminal, and no number in them is cut."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import warploom as wl
from rich.cells import cell_len
from warploom.ground.tables import Column, Styled, draw, short_count


def drawn(columns: list[str | Column], rows: list[list[str]], width: int, left: int = 1) -> list[str]:
    buffer = io.StringIO()
    draw(buffer, "title", columns, rows, left=left, width=width)
    return [line.rstrip() for line in buffer.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("295,040", "295,040"), ("1,000,000", "1.0 M"), ("7,077,888", "7.1 M"), ("75,497,472", "75.5 M"),
        ("130,980,000,000", "131 G"), ("99,960,000", "100 M"), ("1.25", "1.25"), ("conv1", "conv1"),
        ("", ""), ("12345678", "12.3 M"),
    ],
)  # fmt: skip
def test_long_counts_in_few_digits(text: str, short: str) -> None:
    assert short_count(text) == short


COLUMNS: list[str | Column] = ["layer", Column("type", spare=1), "count", Column("why", right=False, wrap=True)]
ROWS = [["conv1", "Conv2d", "7,077,888", "a sentence of several words that can be broken"], ["relu", "ReLU", "12", "short"]]


@pytest.mark.parametrize("width", range(36, 120, 7))
def test_whatever_the_width_words_and_numbers_are_whole(width: int) -> None:
    lines = drawn(COLUMNS, ROWS, width)
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert re.search(r"conv1 .*(7,077,888|7\.1 M) ", text)
    words = re.findall(r"[a-z]+", " ".join(lines[2:]))
    for word in ["a", "sentence", "of", "several", "words", "that", "can", "be", "broken", "short", "conv1", "relu"]:
        assert re.sub(r"\d", "", word) in words


def test_what_gives_way_comes_in_order() -> None:
    full, short = "\n".join(drawn(COLUMNS, ROWS, 90)), "\n".join(drawn(COLUMNS, ROWS, 40))
    assert "7,077,888" in full
    assert "no room" not in full
    assert "7.1 M" in short
    assert "(no room for: type;" in " ".join(drawn(COLUMNS, ROWS, 36))


def test_a_table_too_narrow_for_numbers_is_wider_than_the_terminal() -> None:
    lines = drawn(["layer", "count"], [["a_very_long_name", "1,234"]], 10)
    assert any("a_very_long_name" in line and "1,234" in line for line in lines)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", list(wl.models.BY_NAME))
def test_summaries_fit(name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    arguments = {"ae_dims": 8, "e_dims": 4, "d_dims": 4, "d_mask_dims": 4} if name == "liae_ud" else {}
    model = wl.models.get(name, **arguments)
    table = model.summary()
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= width
    for row in table.rows:
        line = next(line for line in lines if line.startswith(f"{row.name} "))
        assert " x ".join(map(str, row.output_shape)) in line
        if row.parameters and not row.shared:
            assert short_count(f"{row.parameters:,}") in line or f"{row.parameters:,}" in line


def test_reports_fit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    model = wl.models.gray_autoencoder(size=32, width=4, skips=True, in_channels=3)
    model.compile(device="cpu", batch_size=2)
    x = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    for report in (model.trace, model.gradient_flow, model.bypass):
        report(x)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) > 5
        assert max(map(cell_len, lines)) <= 80


def test_no_color_means_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def text() -> str:
        file = Terminal()
        draw(file, "title", ["a", "b"], [["[red]x", Styled("[red]1[/red]")]], color=True)
        return file.getvalue()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m1" in text()
    assert "[red]x" in text()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in text()


def test_a_table_in_a_notebook_is_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert drawn(["a"], [["x"]], 40) == ["title", "a", "─", "x"]
