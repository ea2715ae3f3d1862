"""Sizes that overflow, tried one after the other in a process of its own: python hostile_sizes.py KIND. Each is refused in one
sentence, or works; what is tried stands on stdout before it is tried, so that a crash names its case."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import warploom as wl
from safetensors.numpy import save
from warploom import _core
from warploom.network.config import FORMAT

LARGE = [2**29, 2**30, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1]
WRONG = [*LARGE, -1, -8, -(2**31), -(2**63)]
PAIRS = [(2**16, 2**16), (2**20, 2**20), (2**27, 2**27), (2**28, 2**28), (46341, 46341), (2**15, 2**17)]
MEMORY = 6 << 30
SECONDS = 5.0  # of the processor, for one case


def two(value: int, side: int, other: int = 1) -> tuple[int, int]:
    return (value, other) if side == 0 else (other, value)


def four(value: int, side: int) -> tuple[int, ...]:
    return tuple(value if i == side else 0 for i in range(4))


# The class of a layer, the shape of its input, sound arguments, and for each argument how to put an integer into it.
Put = Callable[[int], Any]
LAYERS: list[tuple[str, tuple[int, ...], dict[str, Any], dict[str, list[Put]]]] = [
    ("Conv2d", (2, 8, 8), {"out_channels": 3, "kernel_size": 3}, {
        "out_channels": [lambda v: v], "kernel_size": [lambda v: v, lambda v: two(v, 0), lambda v: two(v, 1)],
        "stride": [lambda v: v, lambda v: two(v, 0), lambda v: two(v, 1)],
        "padding": [lambda v: v, *(lambda v, i=i: four(v, i) for i in range(4))], "groups": [lambda v: v]}),
    ("ConvTranspose2d", (2, 8, 8), {"out_channels": 3, "kernel_size": 2, "stride": 2}, {
        "out_channels": [lambda v: v], "kernel_size": [lambda v: v, lambda v: two(v, 0), lambda v: two(v, 1)],
        "stride": [lambda v: v, lambda v: two(v, 0), lambda v: two(v, 1)],
        "padding": [lambda v: v, lambda v: two(v, 0, 0), lambda v: two(v, 1, 0)],
        "output_padding": [lambda v: v, lambda v: two(v, 0, 0), lambda v: two(v, 1, 0)], "groups": [lambda v: v]}),
    ("Linear", (8,), {"out_features": 3}, {"out_features": [lambda v: v]}),
    ("MaxPool2d", (2, 8, 8), {"kernel_size": 2}, {
        "kernel_size": [lambda v: v, lambda v: two(v, 0)], "stride": [lambda v: v, lambda v: two(v, 1)]}),
    ("AvgPool2d", (2, 8, 8), {"kernel_size": 2}, {
        "kernel_size": [lambda v: v, lambda v: two(v, 0)], "stride": [lambda v: v, lambda v: two(v, 1)]}),
    ("Upsample", (2, 8, 8), {}, {"scale_factor": [lambda v: v, lambda v: two(v, 0), lambda v: two(v, 1)]}),
    ("Upsample", (2, 8, 8), {"mode": "bilinear"}, {"scale_factor": [lambda v: v, lambda v: two(v, 0)]}),
    ("DepthToSpace", (4, 8, 8), {}, {"block_size": [lambda v: v]}),
    ("Reshape", (2, 8, 8), {"shape": (128,)}, {"shape": [lambda v: (v,), lambda v: (v, 2), lambda v: (-1, v), lambda v: (v, v)]}),
]  # fmt: skip


def layer_cases() -> Iterator[tuple[str, tuple[int, ...], dict[str, Any]]]:
    """Every integer argument alone, and pairs of them whose products overflow."""
    for kind, shape, sound, arguments in LAYERS:
        for name, puts in arguments.items():
            for put in puts:
                for value in (*WRONG, 2**28, 2**20, 65536):
                    yield kind, shape, {**sound, name: put(value)}
        names = list(arguments)
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                for a, b in PAIRS:
                    yield kind, shape, {**sound, first: arguments[first][0](a), second: arguments[second][0](b)}
    for size in WRONG[:7]:
        for shape in ((size,), (size, 1, 1), (1, size, 1), (size, size, size), (2**16, 2**16, 1), (2**15, 2**8, 2**8)):
            yield "ReLU", shape, {}


def attempt(text: str, work: Callable[[], Any]) -> None:
    print(text, flush=True)
    begun = time.process_time()
    problem: Exception | None = None
    result = None
    try:
        result = work()
    except (wl.Error, TypeError, ValueError, MemoryError) as error:
        problem = error
    if problem is not None:
        said = str(problem)
        assert "\n" not in said, said
        assert isinstance(problem, wl.Error) or "core" in text, f"{type(problem).__name__}: {said}"
        assert "please report" not in said, said
    elif result is not None:
        assert np.isfinite(result).all()
    assert time.process_time() - begun < SECONDS, f"it took {time.process_time() - begun:.1f} s"


def build(kind: str, shape: tuple[int, ...], arguments: dict[str, Any]) -> Any:
    x = wl.Input(shape)
    model = wl.Model(x, getattr(wl.layers, kind)(**arguments)(x))
    size = sum(int(np.prod(t.shape)) for t in (*model.inputs, *model.outputs))
    assert all(0 < d <= 2**28 for t in model.outputs for d in t.shape), model.outputs[0].shape
    if size > 1 << 16 or model.count_parameters() > 1 << 16:
        return None  # sound, but not for a test
    return model.predict(np.zeros((1, *shape), np.float32))


def layers() -> None:
    for kind, shape, arguments in layer_cases():
        attempt(f"{kind}({arguments}) of {shape}", lambda k=kind, s=shape, a=arguments: build(k, s, a))
    x = wl.Input((1, 4, 4))
    attempt("Upsample(65536) four times", lambda: grown(x, lambda h: wl.layers.Upsample(65536)(h), 4))
    attempt("concatenation with itself, 70 times", lambda: grown(x, lambda h: wl.layers.Concat()([h, h]), 70))
    attempt("depth to space, 40 times", lambda: grown(wl.Input((4, 2**14, 2**14)), lambda h: wl.layers.DepthToSpace(1)(h), 40))


def grown(h: Any, layer: Callable[[Any], Any], times: int) -> None:
    for _ in range(times):
        h = layer(h)
        assert 0 < int(np.prod([int(d) for d in h.shape], dtype=object)) < 2**31, h.shape
    if times != 40:
        raise AssertionError(f"nothing refused {h.shape}")


def files() -> None:
    """The same from the metadata of a model's file."""
    folder = Path(tempfile.mkdtemp())
    for kind, shape, arguments in layer_cases():
        config = {
            "name": "m", "inputs": [{"name": "x", "shape": shape}], "outputs": [["call", 0]], "latent": None,
            "layers": [{"class": kind, "name": "a", "config": arguments, "trainable": True}],
            "calls": [{"layer": 0, "inputs": [["input", 0]]}],
        }  # fmt: skip
        path = folder / "m.safetensors"
        metadata = {"warploom": json.dumps({"format": FORMAT, "graph": config})}
        path.write_bytes(save({"a.weight": np.zeros((3, 2, 3, 3), np.float32), "a.bias": np.zeros(3, np.float32)}, metadata))

        def load(path: Path = path, shape: tuple[int, ...] = shape) -> Any:
            model = wl.load(path)
            size = sum(int(np.prod(t.shape)) for t in (*model.inputs, *model.outputs))
            return None if size > 1 << 16 else model.predict(np.zeros((1, *shape), np.float32))

        attempt(f"a file with {kind}({arguments}) of {shape}", load)


def core() -> None:
    """Below the Python package: attributes of the graph's nodes, and of the kernel sets' entries."""
    nodes: list[tuple[str, tuple[int, ...], list[tuple[int, ...]], dict[str, Any]]] = [
        ("conv2d", (2, 8, 8), [(3, 2, 3, 3)], {"stride": [1, 1], "padding": [0, 0, 0, 0], "groups": 1, "pool": 1, "upsample": 1}),
        ("conv_transpose2d", (2, 8, 8), [(2, 3, 2, 2)],
         {"stride": [2, 2], "padding": [0, 0], "output_padding": [0, 0], "groups": 1}),
        ("max_pool2d", (2, 8, 8), [], {"kernel": [2, 2], "stride": [2, 2]}),
        ("avg_pool2d", (2, 8, 8), [], {"kernel": [2, 2], "stride": [2, 2]}),
        ("upsample", (2, 8, 8), [], {"scale": [2, 2]}),
        ("depth_to_space", (4, 8, 8), [], {"block": 2}),
        ("reshape", (2, 8, 8), [], {"shape": [2, 64]}),
    ]  # fmt: skip

    def node(op: str, shape: tuple[int, ...], parameters: list[tuple[int, ...]], attributes: dict[str, Any]) -> None:
        g = _core.Graph("g")
        made = g.node(op, "n", [g.input("x", shape)], [g.parameter(f"p{i}", s) for i, s in enumerate(parameters)], attributes)
        assert all(0 < d <= 2**28 for d in g.shape(made[0])), g.shape(made[0])
        g.set_outputs(made)
        g.describe()
        for version in ("cpu",):
            session = _core.Session(g, "cpu", version, losses=[{"kind": "mse"}], allocate=False)
            for batch in (1, 2**16, 2**31 - 1):
                assert session.memory(batch, False)["total"] > 0

    for op, shape, parameters, sound in nodes:
        for name, value in sound.items():
            for wrong in (*WRONG, 0, 2**28, 2**20):
                for i in range(len(value)) if isinstance(value, list) else [None]:
                    changed = wrong if i is None else [wrong if k == i else v for k, v in enumerate(value)]
                    attributes = {**sound, name: changed}
                    attempt(f"core: node {op} {attributes}", lambda a=(op, shape, parameters, attributes): node(*a))
    for shape in ((2**32, 2**32), (2**62, 4), (-1, 5), (-2, -8), (2**63 - 1,), (0, 2**62, 2**62), (2**40,)):
        attempt(f"core: array_empty({shape})", lambda s=shape: refuse(lambda: _core.array_empty(s, "float32", "cpu")))
        array = _core.array_empty((16,), "float32", "cpu")
        attempt(f"core: reshape({shape})", lambda s=shape, a=array: refuse(lambda: a.reshape(*s)))
        attempt(f"core: Graph.input({shape})", lambda s=shape: refuse(lambda: _core.Graph("g").input("x", s)))
        attempt(f"core: Graph.parameter({shape})", lambda s=shape: refuse(lambda: _core.Graph("g").parameter("x", s)))


def refuse(work: Callable[[], Any]) -> None:
    made = work()
    raise AssertionError(f"it was taken: {made}")


def calls() -> None:
    """Every integer attribute of every entry: whether it is taken, what it needs, and a call without inputs."""
    import cases
    import shared_ops

    seen: dict[str, dict[str, Any]] = {}
    for case in cases.SMALL:
        for entry in case.entries:
            seen.setdefault(entry, case.attributes)
    for case in shared_ops.discover():
        if not case.refused:
            seen.setdefault(case.entry, case.public)
    libraries = [(lib["kind"], v) for lib in _core.libraries() if lib["usable"] for v in lib["versions"] if lib["kind"] != "cuda"]
    libraries = [(kind, v) for kind, v in dict.fromkeys(libraries) if kind in ("cpu", "emulated")]
    for kind, version in libraries:
        for entry, attributes in seen.items():
            integers = [k for k, v in attributes.items() if isinstance(v, int) and not isinstance(v, bool)]
            for name in integers:
                for value in (2**29, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -1, -(2**31), 0, 2**28, 2**20):
                    changed = {**attributes, name: value}
                    for ask in (_core.why_not, _core.needs):
                        attempt(f"core: {ask.__name__} {version} {entry} {name}={value}",
                                lambda a=ask, c=changed, e=entry, v=version, k=kind: (a(k, v, e, c), None)[1])  # fmt: skip
                    attempt(f"core: call {version} {entry} {name}={value}",
                            lambda c=changed, e=entry, v=version, k=kind: empty_call(k, v, e, c))  # fmt: skip


def empty_call(kind: str, version: str, entry: str, attributes: dict[str, Any]) -> None:
    _core.call(kind, version, entry, attributes, {})


if __name__ == "__main__":
    if not os.environ.get("WARPLOOM_SANITIZED"):  # AddressSanitizer maps terabytes, and has a limit of its own (.ci/sanitize)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    np.seterr(all="ignore")
    {"layers": layers, "files": files, "core": core, "calls": calls}[sys.argv[1]]()
    print("done")
