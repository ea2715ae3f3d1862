"""What stands out in a profile, in sentences: the lines that waste traffic, and the branches at which warps part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from warploom.kernel_tools.counters import Kernel, Line, Parting, Traffic

# From where on a line is worth a word: its traffic over the ideal, and its share of all traffic of its kind. And a branch: how
# often lanes part there, and its share of all branches.
_RATIO, _SHARE = 1.25, 0.03
_PARTED, _OF_ALL = 0.25, 0.02


class Profiled(Protocol):
    """What a verdict is about: a network's profile, or a program's."""

    @property
    def kernels(self) -> Sequence[Kernel]: ...

    def partings(self, count: int) -> Sequence[tuple[str, Parting]]: ...


@dataclass
class _Found:
    line: Line
    traffic: Traffic
    wasted: float  # sectors or wavefronts, scaled to all blocks


def place_text(place: str) -> str:
    """kernels/v3_tiled_nchw/x.cu:77 without the folder that all of them share."""
    return place.removeprefix("kernels/")


def verdict(profile: Profiled, count: int = 4) -> list[str]:
    """The worst first; one sentence says so where nothing stands out."""
    found: dict[tuple[str, str, str], _Found] = {}
    moved = {"global": 0.0, "shared": 0.0}
    for kernel in profile.kernels:
        scale = kernel.blocks / max(kernel.blocks_counted, 1)
        for space in moved:
            moved[space] += scale * kernel.total(space).moved
        for line in kernel.lines:
            same = found.setdefault((line.place, line.space, line.action), _Found(line, Traffic(), 0.0))
            same.traffic += line.traffic
            same.wasted += scale * line.wasted
    worth = [f for f in found.values() if f.traffic.ratio >= _RATIO and f.wasted >= _SHARE * moved[f.line.space]]
    worth.sort(key=lambda f: -f.wasted / moved[f.line.space])
    sentences = [_of_line(f, moved[f.line.space]) for f in worth[:count]]
    every = sum(k.branches for k in profile.kernels)
    for _, parting in profile.partings(count):
        share = parting.divergent / max(parting.branches, 1)
        if share >= _PARTED and parting.divergent >= _OF_ALL * every:
            sentences.append(f"{place_text(parting.place)}: the lanes of a warp part in {share:.0%} of the times it comes here")
    return sentences or ["nothing stands out: memory is asked for in whole sectors, banks hardly conflict, warps stay whole"]


def _of_line(found: _Found, moved: float) -> str:
    line, share, ratio = found.line, found.wasted / moved, found.traffic.ratio
    noun = {"load": "loads", "store": "stores", "atomic": "atomics", "copy": "copies"}[line.action]
    if line.space == "shared":
        what = f"{noun} conflict {ratio:.1f}-fold in shared memory ({share:.0%} of all wavefronts are in excess)"
    else:
        what = f"{noun} touch {ratio:.1f} times the sectors they need ({share:.0%} of all device traffic is in excess)"
    return f"{place_text(line.place)}: {what}"
