"""The `warploom` command: importing this registers every sub-command."""

from warploom.cli import check, data, kernels, networks, profile, report, reports, train
from warploom.cli.app import main, run

__all__ = ["check", "data", "kernels", "main", "networks", "profile", "report", "reports", "run", "train"]
