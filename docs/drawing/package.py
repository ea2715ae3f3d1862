"""The floors of the Python package, from the table in tests/repo/test_layering.py that the tests check."""

from __future__ import annotations

import ast
from pathlib import Path

from drawing.svg import BLUE, GREEN, GREY, ORANGE, PURPLE, SOFT, YELLOW, Drawing, DrawingError, width_of

TABLE = Path(__file__).resolve().parents[2] / "tests/repo/test_layering.py"
WHAT = {  # a word or two for each part; a part without one is drawn by its name alone
    "_core": "the C++ extension",
    "errors": "one sentence each",
    "interop": "DLPack, arrays",
    "ground": "devices, files, tables",
    "network": "the graph",
    "layers": "what a network is made of",
    "callbacks": "what one is given",
    "losses": "objectives",
    "metrics": "PSNR, IoU",
    "optim": "SGD, Adam, …",
    "engine": "a network on a device",
    "train": "the loop, the feed",
    "inspection": "what explains it",
    "model": "compile, fit, predict, encode",
    "models": "the zoo, saving",
    "data": "sources",
    "ops": "eager calls",
    "kernel_tools": "cubins, counters",
    "runs": "run folders",
    "export": "ONNX, PyTorch",
    "cli": "commands",
    "__main__": "python -m warploom",
}
FILLS = (GREY, BLUE, GREEN, YELLOW, ORANGE, PURPLE)


ROW = 4  # boxes side by side


def floors() -> dict[str, set[str]]:
    """FLOORS as the test has it: what each part may import, besides itself."""
    known: dict[str, object] = {}
    for node in ast.parse(TABLE.read_text()).body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
        if (
            isinstance(target, ast.Name) and target.id.isupper() and names - {"set"} <= known.keys()
        ):  # sets of strings, unions of them
            known[target.id] = eval(compile(ast.Expression(value), str(TABLE), "eval"), {}, dict(known))
    table = known["FLOORS"]
    assert isinstance(table, dict)
    return {part: set(needs) - {part} for part, needs in table.items()}


def levels() -> dict[str, int]:
    """How high each part stands: above all that it may import. Two that may import each other stand side by side."""
    table = floors()
    found = {"_core": 0}

    def level(part: str) -> int:
        if part not in found:
            below = [n for n in table[part] if part not in table.get(n, set())]
            found[part] = 1 + max((level(n) for n in below), default=0)
        return found[part]

    for part in table:
        level(part)
    return found


def python_floors() -> Drawing:
    found = levels()
    floors_up = [sorted(p for p, at in found.items() if at == i) for i in range(max(found.values()) + 1)]
    rows = [(i, parts[k : k + ROW]) for i, parts in enumerate(floors_up) for k in range(0, len(parts), ROW)]
    d = Drawing(
        "the floors of the Python package",
        "Each part stands above all that it may import; the table in tests/repo/test_layering.py says what that is.",
        900,
        86 + 42 * len(rows),
    )
    d.text(20, 30, "python/warploom: a part stands above all that it may import", 16, bold=True)
    d.text(20, 52, "what exactly it may import: FLOORS in tests/repo/test_layering.py, which the tests check", 12, fill=SOFT)
    for i, (floor, row) in enumerate(reversed(rows)):
        wide = (860 - 10 * (len(row) - 1)) / len(row)
        for j, part in enumerate(row):
            left, top = 20 + j * (wide + 10), 70 + 42 * i
            d.rect(left, top, wide, 34, FILLS[floor % len(FILLS)], rx="5")
            name, what = width_of(part, 13, True), WHAT.get(part, "")
            start = left + (wide - name - (width_of(what, 12) + 12 if what else 0)) / 2
            if start < left + 2:
                raise DrawingError(f"{d.title}: '{part}' does not fit its box")
            d.text(start, top + 22, part, 13, bold=True)
            if what:
                d.text(start + name + 12, top + 22, what, 12, fill=SOFT)
    return d


def drawings() -> dict[str, Drawing]:
    return {"python_floors": python_floors()}
