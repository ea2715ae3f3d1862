"""matplotlib, whatever the environment says about it: pictures are drawn by Agg, which needs neither display nor notebook."""

import contextlib
import os
import sys


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
