"""The kernel lab: any CUDA file, without a GPU, on the checked emulated device (docs/lab.md).

assert warploom.lab.check("mine.cu")                            # in a test: what is wrong is the assertion's message
k = warploom.lab.load("mine.cu").kernel("saxpy")
k[grid, block](2.0, x, y, len(x))                               # NumPy arrays, changed in place
"""

from warploom.lab.check import check
from warploom.lab.module import Kernel, Module, load
from warploom.lab.profile import Counted, ProgramProfile, profile
from warploom.lab.refusal import Refusal
from warploom.lab.report import Finding, Place, Report, as_text

__all__ = [
    "Counted",
    "Finding",
    "Kernel",
    "Module",
    "Place",
    "ProgramProfile",
    "Refusal",
    "Report",
    "as_text",
    "check",
    "load",
    "profile",
]
