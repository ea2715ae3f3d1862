"""The `warploom` command: importing this registers every sub-command."""

from warploom.cli import (
    check,
    data,
    detect,
    export,
    kernels,
    ladder,
    learn,
    networks,
    profile,
    report,
    reports,
    search,
    train,
)
from warploom.cli.app import main, run

__all__ = [
    "check",
    "data",
    "detect",
    "export",
    "kernels",
    "ladder",
    "learn",
    "main",
    "networks",
    "profile",
    "report",
    "reports",
    "run",
    "search",
    "train",
]
