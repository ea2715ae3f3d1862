"""The kernel lab: any CUDA file, without a GPU, on the checked emulated device (docs/lab.md).

report = warploom.lab.check("mine.cu")
assert not report.errors, warploom.lab.as_text(report)
"""

from warploom.lab.check import check
from warploom.lab.refusal import Refusal
from warploom.lab.report import Finding, Place, Report, as_text

__all__ = ["Finding", "Place", "Refusal", "Report", "as_text", "check"]
