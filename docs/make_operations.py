"""Writes the table of docs/operations.md from kernels/ops.def and the comments of the argument structs.

python docs/make_operations.py            rewrites the table
python docs/make_operations.py --check    fails where it is out of date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/operations.md"
BEGIN, END = "<!-- table: made by docs/make_operations.py -->", "<!-- end of the table -->"


def sources() -> str:
    paths = [ROOT / "kernels/ops.h", *sorted((ROOT / "kernels/ops").glob("*/args.h"))]
    return "\n".join(path.read_text() for path in paths)


def meaning(struct: str, text: str) -> str:
    """What the struct's comment says: the lines before it, or the one behind its brace (with the lines that continue it)."""
    found = re.search(rf"((?:^//[^\n]*\n)*)^struct {struct} {{ *(//[^\n]*\n(?:^ {{20,}}//[^\n]*\n)*)?", text, re.MULTILINE)
    assert found, f"no struct {struct}"
    comment = found[2] or found[1]
    words = " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())
    return words.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def table() -> str:
    text = sources()
    rows = ["| operation | whose | what it computes |", "|-|-|-|"]
    for macro, name, struct in re.findall(
        r"^(WL_OP|WL_SHARED_OP)\((\w+), (\w+)\)$", (ROOT / "kernels/ops.def").read_text(), re.MULTILINE
    ):
        whose = "each version's" if macro == "WL_OP" else "shared"
        rows.append(f"| `{name}` | {whose} | {meaning(struct, text)} |")
    return "\n".join(rows)


def page() -> str:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


def main() -> int:
    made = page()
    if "--check" in sys.argv:
        return 0 if made == PAGE.read_text() else 1
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
