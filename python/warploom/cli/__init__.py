"""The `warploom` command: importing this registers every sub-command."""

from warploom.cli import (
    check,
    classify,
    data,
    encode,
    evaluate,
    export,
    kernels,
    learn,
    networks,
    profile,
    reconstruct,
    reports,
    train,
)
from warploom.cli.app import main, run

__all__ = [
    "check", "classify", "data", "encode", "evaluate", "export", "kernels", "learn", "main", "networks", "profile",
    "reconstruct", "reports", "run", "train",
]  # fmt: skip
