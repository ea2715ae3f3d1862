"""The sections of a page that show what `warploom classify` and `warploom detect` wrote beside the run."""

from warploom.report.evidence import Evidence
from warploom.report.markup import Markup


def classification(found: Evidence) -> Markup | None:
    return None


def detection(found: Evidence) -> Markup | None:
    return None
