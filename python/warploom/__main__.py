"""`python -m warploom` is the `warploom` command."""

from warploom.commands import run

run()
