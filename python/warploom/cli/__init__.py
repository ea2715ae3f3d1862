"""The `warploom` command: importing this registers every sub-command."""

from warploom.cli import (
    check,
    classify,
    data,
    detect,
    encode,
    evaluate,
    export,
    kernels,
    ladder,
    learn,
    networks,
    profile,
    reconstruct,
    report,
    reports,
    search,
    train,
)
from warploom.cli.app import main, run

__all__ = [
    "check",
    "classify",
    "data",
    "detect",
    "encode",
    "evaluate",
    "export",
    "kernels",
    "ladder",
    "learn",
    "main",
    "networks",
    "profile",
    "reconstruct",
    "report",
    "reports",
    "run",
    "search",
    "train",
]
