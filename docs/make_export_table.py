"""Measures how close exported networks are, and writes the table in docs/export.md.

python docs/make_export_table.py            the networks that the table lacks; all where ONNX Runtime or PyTorch is another one
python docs/make_export_table.py --all      all networks of the zoo at full size: some minutes, 4 GB of memory
"""

from __future__ import annotations

import gc
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

import warploom as wl  # noqa: E402
from export_cases import randomised  # noqa: E402

PAGE = ROOT / "docs/export.md"
BEGIN, END = "<!-- table: made by docs/make_export_table.py -->", "<!-- end of the table -->"
MORE: dict[str, list[dict[str, Any]]] = {  # arguments that are measured beside those in a network's signature
    "autoencoder": [{"latent_size": 256, "norm": "batch", "activation": "gelu", "up": "bilinear"}],
    "gray_autoencoder": [{"skips": True, "residual": True}, {"groups": 2}],
}
ROWS = [(name, arguments) for name in wl.models.NAMES for arguments in ({}, *MORE.get(name, ()))]


def in_torch(code: Path, state: Path, inputs: list[Any]) -> list[Any]:
    spec = importlib.util.spec_from_file_location("net", code)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (kind,) = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == "net"]
    net = kind().eval()
    net.load_state_dict(torch.load(state, weights_only=True))
    with torch.no_grad():
        made = net(*map(torch.from_numpy, inputs))
    return [a.numpy() for a in (made if isinstance(made, tuple) else (made,))]


def called(name: str, arguments: dict[str, Any]) -> str:
    """The first cell of its row."""
    return ", ".join([f"`{name}`", *(f"{key}={value}" for key, value in arguments.items())])


def measured(name: str, arguments: dict[str, Any], folder: Path) -> str:
    model = randomised(wl.models.get(name, **arguments))
    model.place(version="cpu", device="cpu")
    compared = wl.export.compare(model, wl.export.onnx(model, folder / "net.onnx"))
    state, code = wl.export.torch(model, folder / "net.pt")
    inputs = [np.random.default_rng(i).random((2, *t.shape), np.float32) for i, t in enumerate(model.inputs)]
    own = model.predict(inputs)
    pairs = zip(own if isinstance(own, list) else [own], in_torch(code, state, inputs), strict=True)
    cells = [
        called(name, arguments),
        f"{model.count_parameters():,}",
        f"{max(d.largest_value for d in compared):.2g}",
        f"{max(d.largest_difference for d in compared):.1e}",
        f"{max(float(np.abs(a - b).max()) for a, b in pairs):.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    assert begin, f"{PAGE} lacks the line {BEGIN}"
    with_what = f"ONNX Runtime {onnxruntime.__version__}, PyTorch {torch.__version__.partition('+')[0]}."
    anew = "--all" in sys.argv[1:] or with_what not in rest
    there = {} if anew else {line.split(" | ")[0].strip("| "): line for line in rest.partition(END)[0].splitlines()}
    lines = ["| network | parameters | largest output | ONNX Runtime | PyTorch |", "|-|-|-|-|-|"]
    for name, arguments in ROWS:
        row = there.get(called(name, arguments))
        if row is None:
            with tempfile.TemporaryDirectory() as folder:
                row = measured(name, arguments, Path(folder))
            print(row, flush=True)
            gc.collect()
        lines.append(row)
    lines += ["", with_what]
    PAGE.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{rest.partition(END)[2]}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
