"""The `warploom` command: importing this registers every sub-command."""

from warploom.cli import check, data, detect, export, kernels, networks, profile, reports, train
from warploom.cli.app import main, run

__all__ = ["check", "data", "detect", "export", "kernels", "main", "networks", "profile", "reports", "run", "train"]
