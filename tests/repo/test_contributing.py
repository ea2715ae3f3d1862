"""docs/contributing.md counts: each list of files in it is exactly where the named thing occurs in the sources."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/contributing.md"
FOLDERS = ("kernels", "csrc", "cmake", "python")
SUFFIXES = {".h", ".cuh", ".cu", ".cpp", ".def", ".cmake", ".txt", ".py", ".pyi"}
GUIDES = re.findall(r"<!-- files: (.+?) -->\n```\n(.*?)```", PAGE.read_text(), re.DOTALL)
# Who may use a thing without being a place that lists it: networks use layers, and versions begin from one another.
USERS = {"gray_autoencoder": r"$", "v4_im2col_gemm": r"kernels/v\d+_|python/warploom/kernel_tools/kernels.py$"}
NETWORKS = r"python/warploom/models/"


@cache
def sources() -> dict[str, str]:
    found = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SUFFIXES and "__pycache__" not in path.parts:
                found[path.relative_to(ROOT).as_posix()] = path.read_text()
    return found


def where(pattern: str) -> list[str]:
    """Files in which the thing is named. A word may go on (huber_loss, HuberLoss), but not begin before it (million)."""
    whole = re.compile(rf"(?<![A-Za-z])(?:{pattern})|(?<![A-Z])(?:{pattern[0].upper() + pattern[1:]})")
    return [name for name, text in sources().items() if whole.search(text) or whole.search(name.rsplit("/", 1)[0])]


@pytest.mark.parametrize(("pattern", "files"), GUIDES, ids=[pattern for pattern, _ in GUIDES])
def test_a_thing_is_named_where_its_guide_says(pattern: str, files: str) -> None:
    found = [name for name in where(pattern) if not re.match(USERS.get(pattern, NETWORKS), name)]
    assert sorted(found) == sorted(files.split()), f"the list of {pattern} in docs/contributing.md, against the tree"


def test_every_guide_has_a_list() -> None:
    """Guides without one would promise what nothing measures."""
    guides = [g for g in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:] if not g.startswith("Where a test")]
    assert len(guides) == len(GUIDES) == 8
    for guide in guides:
        assert guide.count("<!-- files:") == 1, guide.splitlines()[0]


def test_losses_and_optimizers_make_themselves_known() -> None:
    """A class is enough: neither module holds a table that names its classes."""
    for name, base in (("losses.py", "Loss"), ("optim/__init__.py", "Optimizer")):
        tree = ast.parse((ROOT / "python/warploom" / name).read_text())
        classes = {n.name for n in tree.body if isinstance(n, ast.ClassDef) and n.name != base}
        assert len(classes) >= 6
        for node in tree.body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                used = {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
                assert not used & classes, f"line {node.lineno} of {name} lists {used & classes}"


def test_a_class_is_enough_for_a_name() -> None:
    """What the guide promises, done: a new loss class of an old kind is found by its name, and no user class replaces one."""
    from warploom import losses, optim

    class Quiet(losses.MSE, name="quiet"):
        pass

    class OtherMse(losses.MSE):
        pass

    try:
        assert type(losses.get("quiet", 1)[0]) is Quiet
        assert type(losses.get("mse", 1)[0]) is losses.MSE
        assert losses.MSE().label == "mse"
        assert Quiet().label == "quiet"
        assert OtherMse().label == "mse"
    finally:
        del losses.BY_NAME["quiet"]
    assert all(type(optim.get(name)) is kind for name, kind in optim.BY_NAME.items())


def test_the_core_and_the_classes_have_the_same_losses_and_optimizers() -> None:
    from warploom import _core, losses, optim

    graph = _core.Graph("words")
    graph.set_outputs(graph.node("identity", "a", [graph.input("x", (1,))], [], {}))

    def known(**parts: Any) -> set[str]:
        with pytest.raises(_core.Error) as refused:
            _core.Session(graph, "cpu", "cpu", **parts)
        return set(str(refused.value).partition("there are ")[2].split(", "))

    of_losses = known(losses=[{"kind": "?"}]) ^ {kind.kind for kind in losses.BY_NAME.values()}
    assert not of_losses, f"no loss.cpp of that name, or no class with that kind in losses.py: {of_losses}"
    of_optimizers = known(losses=[{"kind": "mse"}], optimizer={"kind": "?"}) ^ set(optim.BY_NAME)
    assert not of_optimizers, f"no optimizer.cpp of that name, or no class with that kind in optim: {of_optimizers}"


def test_every_layer_is_tried() -> None:
    from warploom import layers

    tried = "".join(path.read_text() for folder in ("engine", "python") for path in (ROOT / "tests" / folder).glob("test_*.py"))
    for name in layers.__all__:
        assert re.search(rf"\b{name}\b", tried), f"{name}: a line in tests/engine/test_layers_torch.py or test_graph_layers.py"


def test_every_command_is_in_the_list_of_the_readme() -> None:
    from warploom.cli.app import app

    names = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback] + [
        g.name for g in app.registered_groups
    ]
    for name in names:
        assert re.search(rf"\bwarploom {name}\b", (ROOT / "README.md").read_text()), f"README.md, The command line: no {name}"
