"""warploom: hand-written CUDA kernels, woven into an engine that trains convolutional autoencoders from Python.

import warploom as wl

model = wl.models.cifar10_autoencoder()
model.compile(optimizer=wl.optim.SGD(lr=1e-3), loss="mse")
model.fit(images, epochs=20)            # NCHW, float32 or uint8
features = model.encode(images)
"""

import os.path
import sys

__version__ = "0.1.0"

if sys.orig_argv[1:3] == ["-m", "warploom"] or os.path.basename(sys.argv[0] if sys.argv else "") == "warploom":
    # The command: Ctrl-C while the rest is imported ends it with a sentence. Where the package is a library, nothing is touched.
    # Only modules that the interpreter has loaded already stand above.
    def _said(kind: type[BaseException], error: BaseException, trace: object) -> None:
        first: BaseException | None = error
        while first is not None and not isinstance(first, KeyboardInterrupt):
            first = first.__cause__  # class bodies, before Python 3.12, and compiled modules raise their own error from Ctrl-C's
        if first is not None:
            print("warploom: interrupted", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)  # type: ignore[arg-type]

    sys.excepthook = _said

try:
    from warploom import _core
except ImportError as _error:
    raise ImportError(
        "warploom's compiled core cannot be loaded; build it with `pip install .` in the repository, or, for work in a checkout, "
        f"with `cmake -S . -B build -DWARPLOOM_INPLACE=ON && cmake --build build` ({_error})"
    ) from _error.__cause__

from warploom import (
    callbacks,
    data,
    detect,
    distributed,
    errors,
    export,
    features,
    interop,
    lab,
    layers,
    losses,
    metrics,
    models,
    ops,
    optim,
    recipes,
)
from warploom.callbacks import Callback, History
from warploom.errors import (
    ArgumentError,
    DataError,
    DeviceError,
    DivergedError,
    DTypeError,
    Error,
    FallbackWarning,
    GraphError,
    KernelFault,
    OutOfMemoryError,
    StateError,
    UnsupportedError,
)
from warploom.ground.hardware import devices, versions
from warploom.interop import Array, asarray, from_dlpack
from warploom.kernel_tools import kernels
from warploom.model import Model
from warploom.models.saving import load_model as load
from warploom.models.sequential import Sequential
from warploom.network.graph import Input, Tensor
from warploom.runs.lr_finder import LRFinder, lr_finder

__all__ = [
    "ArgumentError",
    "Array",
    "Callback",
    "DTypeError",
    "DataError",
    "DeviceError",
    "DivergedError",
    "Error",
    "FallbackWarning",
    "GraphError",
    "History",
    "Input",
    "KernelFault",
    "LRFinder",
    "Model",
    "OutOfMemoryError",
    "Sequential",
    "StateError",
    "Tensor",
    "UnsupportedError",
    "__version__",
    "asarray",
    "callbacks",
    "data",
    "detect",
    "devices",
    "distributed",
    "errors",
    "export",
    "features",
    "from_dlpack",
    "interop",
    "kernels",
    "lab",
    "layers",
    "load",
    "losses",
    "lr_finder",
    "metrics",
    "models",
    "ops",
    "optim",
    "recipes",
    "versions",
]
del _core
