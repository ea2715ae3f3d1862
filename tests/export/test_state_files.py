"""State dicts of other programs: what PyTorch writes is read without it, and no file runs code, takes much memory or ends in a
traceback."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import warploom as wl
from safetensors.numpy import save_file
from test_bombs import expect_refusal
from warploom.export.state_files import read_state_dict

CORPUS = Path(__file__).resolve().parents[1] / "reliability/corpus/state_dict"


def small() -> wl.Model:
    x = wl.Input((3, 8, 8), name="image")
    return wl.Model(x, wl.layers.Conv2d(3, 3, padding=1, name="conv")(x), name="small")


# What PyTorch writes


@pytest.mark.parametrize("name", ["module.pt", "checkpoint.pt", "parameters.pt"])
def test_files_of_pytorch_are_read_without_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    model = small()
    model.load_state_dict(read_state_dict(CORPUS / name))
    whole = read_state_dict(CORPUS / "module.pt")
    rounded = {k: v.astype(np.float16).astype(np.float32) for k, v in whole.items()} if name == "checkpoint.pt" else whole
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, rounded[key])


def test_against_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    norm = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    odd = {"turned": torch.randn(4, 5).t(), "part": torch.randn(7)[2:5], "one": torch.tensor(3.0), "none": torch.zeros(0, 3)}
    tied = {"a": (weight := torch.randn(3, 3)), "b": weight}
    kinds = {"bool": torch.tensor([True, False]), "long": torch.tensor([1 << 40]), "double": torch.randn(2).double()}
    for state in (norm.state_dict(), norm.half().state_dict(), norm.bfloat16().state_dict(), odd, tied, kinds):
        for wrapped in (
            state,
            {"epoch": 3, "model_state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        ):
            torch.save(wrapped, tmp_path / "x.pt")
            found = read_state_dict(tmp_path / "x.pt")
            assert found.keys() == {name for name in state if not name.endswith("num_batches_tracked")}
            for name, value in found.items():
                right = state[name].float() if state[name].dtype == torch.bfloat16 else state[name]
                assert value.dtype == right.numpy().dtype
                np.testing.assert_array_equal(value, right.numpy())
    torch.save(norm.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(
        wl.DataError, match=r"old.pt is neither .*: save it again with torch\.save\(module\.state_dict\(\), path\)"
    ):
        read_state_dict(tmp_path / "old.pt")
    torch.save(norm, tmp_path / "module.pt")
    with pytest.raises(wl.DataError, match=r"it asks for torch\.nn\.modules\.container\.Sequential, which no state dict holds"):
        read_state_dict(tmp_path / "module.pt")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "net.encoder."])
def test_a_prefix_of_all_names_is_left_out(prefix: str) -> None:
    model = small()
    state = {prefix + name: value + 1 for name, value in model.state_dict().items()}
    model.load_state_dict({**state, f"{prefix}bn.num_batches_tracked": np.array(3)})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[prefix + name])


@pytest.mark.parametrize("broken", ["one without", "one missing", "one more", "no dot"])
def test_a_prefix_that_not_all_names_have_is_none(broken: str) -> None:
    model = small()
    prefix = "module" if broken == "no dot" else "module."
    state = {prefix + name: value for name, value in model.state_dict().items()}
    if broken == "one without":
        state["conv.bias"] = state.pop("module.conv.bias")
    elif broken == "one missing":
        del state["module.conv.bias"]
    elif broken == "one more":
        state["module.other"] = np.zeros(1, np.float32)
    with pytest.raises(wl.ArgumentError, match="does not fit model 'small': it lacks conv"):
        model.load_state_dict(state)


def test_a_name_that_ends_as_another_does_not_mislead() -> None:
    """The name that a prefix is read off may be the end of another parameter's."""
    x = wl.Input((3, 4, 4), name="x")
    model = wl.Model(x, wl.layers.Conv2d(3, 1, name="a.conv")(wl.layers.Conv2d(3, 1, name="conv")(x)), name="two")
    state = {name: value + 1 for name, value in model.state_dict().items()}
    model.load_state_dict({f"a.{name}": value for name, value in state.items()})
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_many_names_are_not_all_said() -> None:
    with pytest.raises(wl.ArgumentError, match=r"it has unknown \w+\d+, .* and 992 more") as caught:
        small().load_state_dict({f"x{i}": np.zeros(1) for i in range(1000)})
    assert len(str(caught.value)) < 400


def test_safetensors_of_other_programs(tmp_path: Path) -> None:
    state = {f"module.{name}": value.astype(np.float16) for name, value in small().state_dict().items()}
    save_file(state, tmp_path / "s.safetensors")
    found = read_state_dict(tmp_path / "s.safetensors")
    assert found.keys() == state.keys()
    small().load_state_dict(found)


# What no program writes


def archive(pickled: bytes, members: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        for name, content in {"data.pkl": pickled, **({"data/0": bytes(400)} if members is None else members)}.items():
            made.writestr(f"archive/{name}", content)
    return buffer.getvalue()


class _Global(pickle._Pickler):  # type: ignore[misc]
    """Writes names of modules that need not be here, and storages by what is said of them."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        self.write(f"c{obj.__module__}\n{obj.__qualname__}\n".encode())

    dispatch: ClassVar = {**pickle._Pickler.dispatch, type: save_global, type(lambda: 0): save_global}

    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, _Storage) else None


class _Storage:
    def __init__(self, count: Any = 100, kind: str = "FloatStorage", key: Any = "0", module: str = "torch") -> None:
        self.pid = ("storage", type(kind, (), {"__module__": module, "__qualname__": kind}), key, "cpu", count)


class _Made:
    def __init__(self, *arguments: Any, name: str = "_rebuild_tensor_v2", module: str = "torch._utils") -> None:
        def call() -> None: ...

        call.__module__, call.__qualname__ = module, name
        self.reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def tensor(shape: Any = (3,), strides: Any = (1,), offset: Any = 0, storage: Any = None) -> _Made:
    return _Made(storage or _Storage(), offset, shape, strides, False, OrderedDict())


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    _Global(buffer, 2).dump(value)
    return buffer.getvalue()


def test_these_files_are_read_where_nothing_is_wrong_with_them(tmp_path: Path) -> None:
    """So that what is refused below is refused for what is wrong."""
    (tmp_path / "x.pt").write_bytes(archive(pickled({"a": tensor(), "b": tensor((2, 5), (1, 20), 3)})))
    assert {name: a.shape for name, a in read_state_dict(tmp_path / "x.pt").items()} == {"a": (3,), "b": (2, 5)}


HUGE = 1 << 47
HOSTILE: dict[str, Callable[[], bytes]] = {
    "code": lambda: archive(pickled({"a": _Made("echo", name="system", module="posix")})),
    "code, as the interpreter's own": lambda: archive(pickled({"a": _Made("1", name="eval", module="builtins")})),
    "code of PyTorch": lambda: archive(pickled({"a": _Made("x", name="load", module="torch")})),
    "an attribute of an allowed one": lambda: archive(pickled({"a": _Made(name="OrderedDict.fromkeys", module="collections")})),
    "state for a function": lambda: archive(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb."),
    "a tensor larger than its storage": lambda: archive(pickled({"a": tensor((101,))})),
    "a tensor behind its storage": lambda: archive(pickled({"a": tensor(offset=98)})),
    "a tensor before its storage": lambda: archive(pickled({"a": tensor(offset=-1)})),
    "a negative stride": lambda: archive(pickled({"a": tensor((3,), (-1,), 5)})),
    "elements again and again": lambda: archive(pickled({"a": tensor((1 << 20, 1 << 20), (0, 0))})),
    "sizes whose product wraps": lambda: archive(pickled({"a": tensor((1 << 32, 1 << 32), (1, 1))})),
    "an empty tensor of huge sizes": lambda: archive(pickled({"a": tensor((0, HUGE, HUGE), (1, 1, 1))})),
    "many axes": lambda: archive(pickled({"a": tensor((1,) * 100, (1,) * 100)})),
    "sizes that are no numbers": lambda: archive(pickled({"a": tensor((2.0,))})),
    "sizes that are true": lambda: archive(pickled({"a": tensor((True,))})),
    "strides for other sizes": lambda: archive(pickled({"a": tensor((3, 3))})),
    "a storage that is not there": lambda: archive(pickled({"a": tensor(storage=_Storage(key="7"))})),
    "a storage of a list": lambda: archive(pickled({"a": tensor(storage=_Storage(key=[1]))})),
    "a storage in another folder": lambda: archive(pickled({"a": tensor(storage=_Storage(key="../../../etc/passwd"))})),
    "a storage that is too short": lambda: archive(pickled({"a": tensor(storage=_Storage(count=HUGE))})),
    "a storage of fewer than none": lambda: archive(pickled({"a": tensor(storage=_Storage(count=-1))})),
    "a storage of unknown type": lambda: archive(pickled({"a": tensor(storage=_Storage(kind="UntypedStorage"))})),
    "a storage of another module": lambda: archive(pickled({"a": tensor(storage=_Storage(module="os"))})),
    "a number for a tensor": lambda: archive(pickled({"a": tensor(), "b": 3})),
    "names that are numbers": lambda: archive(pickled({1: tensor()})),
    "a list": lambda: archive(pickled([tensor()])),
    "a number": lambda: archive(pickled(5)),
    "nothing in it": lambda: archive(pickled({})),
    "itself": lambda: archive(b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s."),
    "deep": lambda: archive(b"\x80\x02)" + b"\x85" * 500_000 + b"."),
    "a memo of 2^28 entries": lambda: archive(b"\x80\x02Nr\x00\x00\x00\x10."),
    "a text of 2^62 bytes": lambda: archive(b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x."),
    "no end": lambda: archive(b"\x80\x02}"),
    "packed": lambda: archive(pickled({"a": tensor(storage=_Storage(count=25_000_000))}), {"data/0": bytes(100_000_000)}, 8),
    "two pickles": lambda: archive(pickled({"a": tensor()}), {"data/0": bytes(400), "more/data.pkl": b"N."}),
    "no pickle": lambda: archive(b"").replace(b"data.pkl", b"date.pkl"),
    "cut short": lambda: archive(pickled({"a": tensor()}))[:-30],
    "a bit turned": lambda: archive(pickled({"a": tensor()}), {"data/0": b"a" * 400}).replace(b"aaaa", b"aaba", 1),
    "no zip after all": lambda: b"PK\x03\x04" + bytes(100),
    "empty": lambda: b"",
    "a picture": lambda: b"\x89PNG\r\n\x1a\n",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str, tmp_path: Path) -> None:
    content = HOSTILE[name]()
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    expect_refusal(lambda: read_state_dict(path), len(content))
    with pytest.raises(wl.DataError, match=r"x\.pt") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


def test_members_that_lie_over_each_other(tmp_path: Path) -> None:
    """Ten thousand entries of the directory that all name the same bytes of the file."""
    whole = archive(pickled({"a": tensor()}), {"data/0": bytes(100_000)})
    end = whole.rindex(b"PK\x05\x06")
    start = struct.unpack("<I", whole[end + 16 : end + 20])[0]
    directory = whole[start:end]
    one = directory[directory.index(b"PK\x01\x02", 4) :]
    many = directory + one * 10_000
    tail = whole[end : end + 8] + struct.pack("<HHII", 10_002, 10_002, len(many), start) + whole[end + 20 :]
    path = tmp_path / "x.pt"
    path.write_bytes(whole[:start] + many + tail)
    with pytest.raises(wl.DataError, match="packed or lie over each other"):
        read_state_dict(path)


def test_a_folder_and_nothing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pt"):
        with pytest.raises(wl.DataError, match="there is no file"):
            read_state_dict(path)


def test_nothing_of_a_file_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(archive(pickled({"a": tensor()})))
    assert not read_state_dict(tmp_path / "x.pt")["a"].flags.writeable
