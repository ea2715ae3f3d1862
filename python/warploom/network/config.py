"""A network as JSON: layers with their arguments, calls by number, inputs and outputs; and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from warploom.errors import DataError
from warploom.network.graph import Call, Input, Layer, Tensor

FORMAT = "warploom-model-2"  # of the files that hold such a description and the parameters
FORMATS = (FORMAT, "warploom-model-1")  # that are read: 1 had no checksum


@dataclass(frozen=True)
class Parts:
    """What a Network is made of."""

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    latent: Tensor | None


def describe(parts: Parts, layers: Sequence[Layer], calls: Sequence[Call]) -> dict[str, Any]:
    """The network as JSON-able values."""
    number = {id(layer): i for i, layer in enumerate(layers)}
    values: dict[int, list[Any]] = {id(t): ["input", i] for i, t in enumerate(parts.inputs)}
    written = []
    for i, call in enumerate(calls):
        written.append({"layer": number[id(call.layer)], "inputs": [values[id(t)] for t in call.inputs]})
        values.update({id(t): ["call", i] for t in call.outputs})
    return {
        "name": parts.name,
        "inputs": [{"name": t.name, "shape": t.shape} for t in parts.inputs],
        "layers": [{"class": type(x).__name__, "name": x.name, "config": x.config(), "trainable": x.trainable} for x in layers],
        "calls": written,
        "outputs": [values[id(t)] for t in parts.outputs],
        "latent": values[id(parts.latent)] if parts.latent is not None else None,
    }


def build(config: dict[str, Any]) -> Parts:
    """The tensors of a described network, with fresh layers. Raises what a wrong description leads to; callers say which file."""

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
    return Parts(config["name"], inputs, [value(r) for r in config["outputs"]], latent)
