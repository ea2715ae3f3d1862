"""Writes the drawings of the documentation, docs/images/*.svg, from the modules in docs/drawing.

python docs/make_drawings.py            writes them
python docs/make_drawings.py --check    fails where one is out of date, is missing, or is drawn by nobody
python docs/make_drawings.py --plan     first plans the training step anew (needs the built package) and keeps it as plan.json
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from drawing import ladder, package, plan, tensor_cores
from drawing.svg import Drawing

IMAGES = Path(__file__).resolve().parent / "images"


def drawings() -> dict[str, Drawing]:
    """Every drawing by the name of its file."""
    return {f"{name}.svg": d for module in (ladder, tensor_cores, plan, package) for name, d in module.drawings().items()}


def stale() -> list[str]:
    """What does not stand in docs/images as it would be written now."""
    made = drawings()
    wrong = [name for name, d in made.items() if not (IMAGES / name).exists() or (IMAGES / name).read_text() != d.svg()]
    return sorted(wrong + [p.name for p in IMAGES.glob("*.svg") if p.name not in made])


def main() -> int:
    if "--plan" in sys.argv:
        plan.keep()
    if "--check" in sys.argv:
        wrong = stale()
        if wrong:
            print(f"out of date: {', '.join(wrong)}; run python docs/make_drawings.py", file=sys.stderr)
        return 1 if wrong else 0
    for name, d in drawings().items():
        (IMAGES / name).write_text(d.svg())
    return 0


if __name__ == "__main__":
    sys.exit(main())
