"""A short fuzzing of every parser with the mutator of fuzz.py, whose own command goes on for as long as it is told.

WARPLOOM_FUZZ_SECONDS: of the processor, for each parser (2; CI says 60).
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import fuzz
import pytest
from reached import Reached

SECONDS = float(os.environ.get("WARPLOOM_FUZZ_SECONDS", "2"))


@pytest.mark.parametrize("name", list(fuzz.TARGETS))
def test_only_documented_errors(name: str, tmp_path: Path) -> None:
    tried, read, wrong = fuzz.fuzz(name, seconds=SECONDS, seed=0, keep=tmp_path)
    assert not wrong, (wrong[:5], sorted(tmp_path.iterdir())[:5])
    assert tried > 3
    assert read > 0, "not even the files to begin with were read"


def test_what_was_found_once_stays_found() -> None:
    kept = [path for path in sorted(fuzz.CORPUS.rglob("*")) if path.is_file()]
    assert kept
    with fuzz.Places() as places:
        for path in kept:
            said, _ = fuzz.attempt(fuzz.TARGETS[path.parent.name], places, path.read_bytes())
            assert not said, (path, said)


@pytest.mark.parametrize("error", [fuzz.wl.ArgumentError, fuzz.wl.DTypeError, fuzz.wl.DataError])
def test_a_sentence_is_one_line_not_too_long_and_commands_no_terminal(error: type[Exception]) -> None:
    """What a file says, or what it is called, may hold anything."""
    said = error("no 'a\nb' in x\x1b[2J\x85.npy (\u2028, \ud800), schön \\n")
    assert str(said) == r"no 'a\nb' in x\x1b[2J\x85.npy (\u2028, \ud800), schön \n"
    assert str(error(str(said))) == str(said)
    long = error(f"unknown model {'[' * 60_000!r}; expected one of these")
    assert len(str(long)) == 2000
    assert str(long).startswith("unknown model '[[[")
    assert str(long).endswith("[[['; expected one of these")
    assert str(error(str(long))) == str(long)


@pytest.mark.parametrize("fault", ["another error", "much memory", "no sentence"])
def test_the_fuzzer_notices(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any, content: bytes) -> Any:
        if fault == "another error":
            raise IndexError("out of range")
        if fault == "no sentence":
            raise fuzz.wl.GraphError("two\nlines")
        return b"x" * (300_000_000 + 10 * len(content))

    hole = [bytes(100_000) for _ in range(4000)]
    kept = hole.pop()  # above the hole, so that the allocator cannot give it back by itself
    del hole
    monkeypatch.setitem(fuzz.TARGETS, "npy", fuzz.Target(broken, lambda _: [b"seed"]))
    tried, _, wrong = fuzz.fuzz("npy", seconds=1, seed=0)
    assert len(wrong) == tried > 1, "what the process held before must not hide what it holds now"
    assert len(kept) == 100_000


def test_mutations_differ_and_repeat() -> None:
    made = [[fuzz.mutate(random.Random(seed), [b"0123456789" * 20]) for seed in range(200)] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) > 150


def test_coverage_is_of_the_functions_entered() -> None:
    with Reached() as nothing:
        pass
    assert nothing.statements == 0
    parse, made = fuzz.cifar._parse_binary, fuzz.TARGETS["cifar_binary"].seeds(None)[0]  # type: ignore[arg-type]
    with Reached() as good:
        parse(made, "x")
    assert list(good.missed) == ["data/cifar.py"], "the refusals are not reached by a good file"
    with Reached() as both:
        parse(made, "x")
        with pytest.raises(fuzz.wl.DataError):
            parse(made[:-1], "x")
    assert good.reached < both.reached <= both.statements == good.statements + 2, "and those of ArgumentError()"
