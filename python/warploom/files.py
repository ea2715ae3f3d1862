"""Files: whole models as .safetensors, written so that a crash never leaves half a file."""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from warploom._typing import Array
from warploom.errors import ArgumentError, DataError, GraphError
from warploom.graph import Input, Tensor
from warploom.layers import Layer

if TYPE_CHECKING:
    from warploom.model import Model

FORMAT = "warploom-model-1"
_KEY = "warploom"  # one entry of metadata holds everything: the order of several would differ from file to file


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~user replaced by their home folders."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DataError(f"{path}: there is no such home folder") from None


def write_atomically(path: str | Path, content: bytes) -> None:
    """Writes beside the target and renames: readers see the old file or the new one, never a part.

    A link keeps pointing where it points. What is there and no plain file (/dev/stdout, a pipe) is written to, not replaced."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir() and (not path.is_file() or path.parent == Path("/dev")):
            path.write_bytes(content)
            return
        path = path.resolve()
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 would hide the file from others
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another place or free some space") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_tensors(path: str | Path, tensors: Mapping[str, Array], metadata: dict[str, Any]) -> None:
    from safetensors.numpy import save

    text = json.dumps(metadata, separators=(",", ":"))
    write_atomically(path, save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {_KEY: text}))


def read_tensors(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """(tensors, our metadata: {} in files of others) of a .safetensors file; DataError in one sentence where that fails."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, metadata if isinstance(metadata, dict) else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is damaged or no .safetensors file ({error}); restore it from a copy or train again") from error


def config_of(model: "Model") -> dict[str, Any]:
    """The network as JSON: layers with their arguments, calls by number, inputs and outputs."""
    layers = model.layers
    number = {id(layer): i for i, layer in enumerate(layers)}
    values: dict[int, list[Any]] = {id(t): ["input", i] for i, t in enumerate(model.inputs)}
    calls = []
    for i, call in enumerate(model.calls):
        calls.append({"layer": number[id(call.layer)], "inputs": [values[id(t)] for t in call.inputs]})
        values.update({id(t): ["call", i] for t in call.outputs})
    return {
        "name": model.name,
        "inputs": [{"name": t.name, "shape": t.shape} for t in model.inputs],
        "layers": [{"class": type(x).__name__, "name": x.name, "config": x.config(), "trainable": x.trainable} for x in layers],
        "calls": calls,
        "outputs": [values[id(t)] for t in model.outputs],
        "latent": values[id(model.latent)] if model.latent is not None else None,
    }


def from_config(config: dict[str, Any]) -> "Model":
    """The network that config_of() described, with fresh parameters."""
    from warploom.model import Model

    def tuples(value: Any) -> Any:
        return tuple(tuples(v) for v in value) if isinstance(value, list) else value

    inputs = [Input(tuple(i["shape"]), name=i["name"]) for i in config["inputs"]]
    layers = []
    for entry in config["layers"]:
        if entry["class"] not in Layer.registry:
            raise DataError(
                f"it uses the layer class {entry['class']!r}, which is not known here: import the code that defines it first"
            )
        arguments = {key: tuples(value) for key, value in entry["config"].items()}
        layers.append(Layer.registry[entry["class"]](**arguments, name=entry["name"]))
        layers[-1].trainable = bool(entry.get("trainable", True))  # files of earlier versions do not say
    made: list[Tensor] = []

    def value(reference: list[Any]) -> Tensor:
        kind, index = reference
        found: Tensor = (inputs if kind == "input" else made)[index]
        return found

    for call in config["calls"]:
        made.append(layers[call["layer"]]([value(r) for r in call["inputs"]]))
    latent = value(config["latent"]) if config["latent"] is not None else None
    return Model(inputs, [value(r) for r in config["outputs"]], name=config["name"], latent=latent)


def from_parts(config: dict[str, Any], state: Mapping[str, Array]) -> "Model":
    """The network of config_of() with those parameters."""
    model = from_config(config)
    model.load_state_dict(state)
    return model


def save_model(model: "Model", path: str | Path) -> None:
    metadata = {"format": FORMAT, "graph": config_of(model)}
    write_tensors(path, model.state_dict(), metadata)


def load_model(path: str | Path) -> "Model":
    """A model from a file of Model.save(): network, names and parameters; ready to predict, to compile for training."""
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT or "graph" not in metadata:
        raise DataError(
            f"{path} is a .safetensors file without a warploom network in it; build the model and use "
            "model.load_state_dict(safetensors.numpy.load_file(path))"
        )
    try:
        model = from_config(metadata["graph"])
        model.load_state_dict(tensors)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, GraphError) as error:
        detail = str(error) if isinstance(error, (ArgumentError, GraphError)) else f"{type(error).__name__}: {error}"
        raise DataError(f"{path} does not describe a network that can be built: {detail}") from error
    return model
