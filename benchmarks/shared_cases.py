"""The operations that all versions share, at sizes worth timing: `compare_versions.py --cases shared`.

Each entry's largest case of kernels/ops/<name>/reference.py, in the layouts it has, repeated along its outermost axis until it
holds about as many elements as were asked for. Inputs and the float64 reference are that file's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import shared_ops
from harness import Target
from numpy.typing import NDArray
from shared_ops import SharedCase

Array = NDArray[Any]
OUTERMOST = ("N", "outer", "rows", "count")  # attributes that only say how many there are of the same


def size_of(tensors: dict[str, Array]) -> int:
    return sum(v.size for v in tensors.values())


def enlarged(case: SharedCase, elements: int) -> SharedCase:
    """The case with as many images, rows or elements as make about `elements` in all inputs."""
    key = next((k for k in OUTERMOST if k in case.attributes), None)
    now = size_of(case.draw())
    if key is None or now >= elements:
        return case
    count = case.attributes[key] * max(1, elements // max(now, 1))
    bigger = {key: count}
    if case.attributes.get("samples") == case.attributes[key]:
        bigger["samples"] = count
    return replace(case, name=f"{case.name}_{key}{count}", attributes=case.attributes | bigger)


def cases(elements: int) -> Iterator[SharedCase]:
    """One case an entry, or one a layout where the layout is an attribute."""
    best: dict[tuple[str, str], tuple[tuple[bool, int], SharedCase]] = {}
    for case in shared_ops.discover():
        if case.refused:
            continue
        key = (case.entry, str(case.attributes.get("layout", "")))
        ordinary = not any(k.startswith("_") for k in case.attributes)  # with all optional inputs, and no odd values
        rank = (ordinary, size_of(case.draw()))
        if key not in best or rank > best[key][0]:
            best[key] = (rank, case)
    for _, case in best.values():
        yield enlarged(case, elements)


@dataclass
class Prepared:
    """A case with its inputs as the entry takes them and what must come out."""

    case: SharedCase
    given: dict[str, Array]
    expected: dict[str, Array]
    outputs: list[str]
    updated: list[str]

    @property
    def moved(self) -> int:
        """Bytes that must be read or written once."""
        read = sum(v.nbytes for v in self.given.values())
        return read + sum(4 * self.expected[n].size for n in [*self.outputs, *self.updated])


def prepare(core: Any, case: SharedCase) -> Prepared:
    tensors = shared_ops.signature(core, case)
    given = shared_ops.cast(tensors, case.draw())
    expected = case.expect(given)
    outputs = shared_ops.requests(tensors, expected)[0]
    updated = [name for name, t in tensors.items() if t.role == "inout" and name in given]
    return Prepared(case, given, expected, outputs, updated)


def wrong(prepared: Prepared, target: Target, results: dict[str, Array], updated: bool = True) -> str:
    """ "" or what is wrong; what is updated in place is right only after one call."""
    names = [*prepared.outputs, *(prepared.updated if updated else [])]
    try:
        shared_ops.compare(target, prepared.case, prepared.given, prepared.expected, results, names)
    except shared_ops.Mismatch as e:
        return str(e).splitlines()[0]
    return ""


def fits(case: SharedCase, target: Target) -> bool:
    """Whether the case is in the version's own layout, or has none."""
    return case.attributes.get("layout", target.layout) == target.layout
