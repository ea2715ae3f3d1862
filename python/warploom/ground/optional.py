"""Libraries that not everyone needs: imported where they are used, with a sentence where they are missing."""

import importlib
from typing import Any

from warploom.errors import StateError


def needed(module: str, package: str, what: str) -> Any:
    """The module; StateError with pip's command where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StateError(f"{what} needs {package}: pip install {package} ({error})") from None
