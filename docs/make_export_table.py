"""Measures how close exported networks are, and writes the table in docs/export.md.

python docs/make_export_table.py            all networks of the zoo at full size: some minutes, 4 GB of memory
"""

from __future__ import annotations

import gc
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))

import warploom as wl  # noqa: E402
from export_cases import randomised  # noqa: E402

PAGE = ROOT / "docs/export.md"
BEGIN, END = "<!-- table: made by docs/make_export_table.py -->", "<!-- end of the table -->"
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("cifar10_autoencoder", {}),
    ("autoencoder", {}),
    ("autoencoder", {"latent_size": 256, "norm": "batch", "activation": "gelu", "up": "bilinear"}),
    ("gray_autoencoder", {}),
    ("gray_autoencoder", {"skips": True, "residual": True}),
    ("gray_autoencoder", {"groups": 2}),
    ("unet_small", {}),
    ("unet_large", {}),
    ("dsresnet", {}),
    ("liae_ud", {}),
]


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


def measured(name: str, arguments: dict[str, Any], folder: Path) -> str:
    model = randomised(wl.models.get(name, **arguments))
    model.place(version="cpu", device="cpu")
    compared = wl.export.compare(model, wl.export.onnx(model, folder / "net.onnx"))
    state, code = wl.export.torch(model, folder / "net.pt")
    inputs = [np.random.default_rng(i).random((2, *t.shape), np.float32) for i, t in enumerate(model.inputs)]
    own = model.predict(inputs)
    pairs = zip(own if isinstance(own, list) else [own], in_torch(code, state, inputs), strict=True)
    told = ", ".join(f"{key}={value}" for key, value in arguments.items())
    cells = [
        f"`{name}`{f', {told}' if told else ''}",
        f"{model.count_parameters():,}",
        f"{max(d.largest_value for d in compared):.2g}",
        f"{max(d.largest_difference for d in compared):.1e}",
        f"{max(float(np.abs(a - b).max()) for a, b in pairs):.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    lines = ["| network | parameters | largest output | ONNX Runtime | PyTorch |", "|-|-|-|-|-|"]
    for name, arguments in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(measured(name, arguments, Path(folder)))
        print(lines[-1], flush=True)
        gc.collect()
    import onnxruntime

    lines += ["", f"ONNX Runtime {onnxruntime.__version__}, PyTorch {torch.__version__.partition('+')[0]}."]
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    assert begin, f"{PAGE} lacks the line {BEGIN}"
    PAGE.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{rest.partition(END)[2]}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
