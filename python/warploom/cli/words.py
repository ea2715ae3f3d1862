"""The words of the command line: its panels, what the shell completes, and checks of numbers that read well in --help."""

from collections.abc import Callable
from typing import Any

import typer

from warploom import models
from warploom.ground import hardware
from warploom.ground.arrays import LARGEST

TRAIN, USE, EXPLAIN, KERNELS = "Train", "Use", "Explain", "Kernels"  # what a person wants to do
PANELS = (TRAIN, USE, EXPLAIN, KERNELS)
CONFIGURED = (USE, EXPLAIN)  # whose commands all take --config; `train` has one of its own
FIRST = (  # in their panels, before the others
    "train", "models", "make-data", "evaluate", "reconstruct", "encode", "classify", "detect", "summary", "plot",
    "devices", "versions",
)  # fmt: skip


def whole(low: int = 1, high: int = LARGEST) -> Callable[[Any], Any]:
    """A check of an option that is a whole number. Typer's own min and max would print themselves into --help."""

    def check(value: int | None) -> int | None:
        if value is not None and not low <= value <= high:
            span = f"at least {low:,}" if value < low else f"at most {high:,}"
            raise typer.BadParameter(f"{value} is out of range: expected {span}")
        return value

    return check


def complete_models(incomplete: str) -> list[str]:
    return [name for name in models.BY_NAME if name.startswith(incomplete)]


def complete_devices(incomplete: str) -> list[str]:
    names = ["auto", *(row["name"] for row in hardware.devices() if row["usable"])]
    return [name for name in names if name.startswith(incomplete)]


def complete_versions(incomplete: str) -> list[str]:
    return [name for name in ["auto", *(row["name"] for row in hardware.versions())] if name.startswith(incomplete)]


def complete_from(names: Any) -> Callable[[str], list[str]]:
    """Completes one of those words."""
    words = list(names)

    def complete(incomplete: str) -> list[str]:
        return [name for name in words if name.startswith(incomplete)]

    return complete
