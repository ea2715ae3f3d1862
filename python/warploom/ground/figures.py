"""matplotlib, whatever the environment says about it: pictures are drawn by Agg, which needs neither display nor notebook."""

import contextlib
import os
import sys
from pathlib import PurePosixPath


def ready() -> None:
    """Imports matplotlib. A MPLBACKEND that cannot be used here, of the notebook that started this process, ends nothing.

    matplotlib reads the variable when it is imported, and raises where it knows no such backend; here it is set afterwards.
    """
    if "matplotlib" in sys.modules:
        return
    asked = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if asked is not None:
            os.environ["MPLBACKEND"] = asked
    if asked:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = asked


def short_name(name: str, longest: int = 24) -> str:
    """A file's name and its folder's, for under or over a picture; where they are longer the name alone, or its end."""
    parts = PurePosixPath("".join(c if c.isprintable() else "?" for c in name)).parts
    tail = "/".join(parts[-2:])
    if len(tail) > longest:
        tail = parts[-1]
    return tail if len(tail) <= longest else f"…{tail[1 - longest :]}"
