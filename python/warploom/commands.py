"""The `warploom` command with all its sub-commands."""

from warploom import cli, cli_data, cli_kernels, cli_networks, cli_profile, cli_reports
from warploom.cli import main, run
from warploom.lab import command as lab_command

cli.app.command("check")(lab_command.check_file)

__all__ = ["cli", "cli_data", "cli_kernels", "cli_networks", "cli_profile", "cli_reports", "main", "run"]
