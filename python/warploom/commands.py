"""The `warploom` command with all its sub-commands."""

from warploom import cli, cli_data, cli_kernels, cli_networks, cli_reports
from warploom.cli import main, run

__all__ = ["cli", "cli_data", "cli_kernels", "cli_networks", "cli_reports", "main", "run"]
