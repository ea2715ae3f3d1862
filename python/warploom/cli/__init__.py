"""The `warploom` command: every file beside this one is imported, and registers its sub-commands."""

import importlib
import pkgutil

from warploom.cli.app import main, run

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["main", "run"]
