"""Network: layers between inputs and outputs, with their parameters; nothing runs here."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from warploom.errors import ArgumentError, GraphError, StateError
from warploom.ground.array_types import Floats
from warploom.ground.parameters import Parameter
from warploom.network import config, state
from warploom.network.graph import Input, Layer, Tensor, check_name
from warploom.network.lowering import Lowered, lower
from warploom.network.structure import calls_between, calls_to, given_tensors, name_everything

_N = TypeVar("_N", bound="Network")


class Network:
    """A network from its input tensors to its output tensors. Networks made of the same layers share their parameters.

    What runs one on a device is an Engine; Model is a Network with an engine of its own.
    """

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Tensor | Sequence[Tensor],
        name: str = "model",
        *,
        latent: Tensor | None = None,
    ) -> None:
        check_name(name, "model")
        self.name = name
        self.inputs = given_tensors(inputs, "inputs")
        self.outputs = given_tensors(outputs, "outputs")
        self.calls = calls_between(self.inputs, self.outputs)
        marked = [call.outputs[0] for call in self.calls if call.layer.marks_latent]
        if len(marked) > 1 and latent is None:
            raise GraphError(
                f"model {name!r} has {len(marked)} Latent layers: say which one counts with Model(..., latent=tensor)"
            )
        self.latent = latent if latent is not None else (marked[0] if marked else None)
        name_everything(name, self.inputs, self.layers)
        self._lowered = self.lowered()  # checks the whole graph

    def lowered(self, further: Sequence[Tensor] = ()) -> Lowered:
        """The network as a graph of the core, as its layers are now: some may have been frozen since it was made.

        further: tensors of the network that are outputs of the graph too, behind the network's own."""
        self._lowered = lower(self.name, self.inputs, [*self.outputs, *further], self.calls)
        return self._lowered

    def penalties(self) -> list[tuple[Tensor, str, float]]:
        """(tensor, kind of loss, weight): what the layers add to the loss."""
        return [(call.inputs[0], kind, weight) for call in self.calls for kind, weight in call.layer.penalties()]

    @property
    def layers(self) -> list[Layer]:
        """Every layer once, in the order of first use."""
        return list({id(call.layer): call.layer for call in self.calls}.values())

    def layer(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ArgumentError(f"model {self.name!r} has no layer {name!r}; it has {', '.join(str(x.name) for x in self.layers)}")

    @property
    def node_names(self) -> list[str]:
        """A name per call: the layer's, with @2, @3, … from the second use of a shared layer on."""
        return self._lowered.nodes

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that make the outputs; dictionaries of losses and targets are keyed by them."""
        made = {id(t): name for call, name in zip(self.calls, self.node_names, strict=True) for t in call.outputs}
        return [made.get(id(t), str(t.name)) for t in self.outputs]

    def __call__(self, *inputs: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        """The same layers on other tensors: a shared sub-network."""
        tensors = [t for value in inputs for t in (value if isinstance(value, (list, tuple)) else [value])]
        if len(tensors) != len(self.inputs):
            raise ArgumentError(f"model {self.name!r} takes {len(self.inputs)} input(s), not {len(tensors)}")
        values: dict[int, Any] = {id(own): given for own, given in zip(self.inputs, tensors, strict=True)}
        for call in self.calls:
            made = call.layer([values[id(t)] for t in call.inputs])
            values[id(call.outputs[0])] = made
        results: list[Tensor] = [values[id(t)] for t in self.outputs]
        return results[0] if len(results) == 1 else results

    def resized(self: _N, height: int, width: int) -> _N:
        """The same layers on images of that size. ArgumentError or GraphError names the layer that cannot take it."""
        inputs = [Input((t.shape[0], height, width), name=t.name) for t in self.inputs]
        values: dict[int, Any] = {id(own): new for own, new in zip(self.inputs, inputs, strict=True)}
        for call in self.calls:
            values[id(call.outputs[0])] = call.layer([values[id(t)] for t in call.inputs])
        latent = None if self.latent is None else values.get(id(self.latent))
        return type(self)(inputs, [values[id(t)] for t in self.outputs], name=self.name, latent=latent)

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"<{kind} {self.name!r}: {len(self.layers)} layers, {self.count_parameters():,} parameters>"

    # The latent
    def require_latent(self) -> Tensor:
        """The latent; GraphError where none is marked."""
        if self.latent is None:
            raise GraphError(
                f"model {self.name!r} has no latent: mark it with warploom.layers.Latent() or Model(..., latent=tensor)"
            )
        return self.latent

    def inputs_of_latent(self) -> list[Tensor]:
        """The inputs that the latent depends on."""
        reached = {id(t) for call in calls_to(self.require_latent()) for t in call.inputs}
        return [t for t in self.inputs if id(t) in reached]

    # Parameters
    def named_parameters(self) -> dict[str, Parameter]:
        """Parameters and buffers (`spec.buffer`) by their names in the state dict."""
        return dict(self._lowered.parameters)

    def count_parameters(self, *, trainable_only: bool = False) -> int:
        """How many numbers the model trains (and with frozen ones, holds); buffers such as running statistics do not count."""
        counted = {id(p): p for x in self.layers for p in x.parameters.values() if x.trainable or not trainable_only}
        chosen = [p for p in counted.values() if not p.spec.buffer and (p.trainable or not trainable_only)]
        return sum(math.prod(p.spec.shape) for p in chosen)

    def state_dict(self) -> dict[str, Floats]:
        """Copies of all parameters under PyTorch's names and shapes. StateError before they have values: an engine draws them."""
        empty = [name for name, p in self._lowered.parameters.items() if p.stamp == 0]
        if empty:
            raise StateError(f"{empty[0]} of {self.name!r} has no value yet: load a state dict, or make an Engine")
        return {name: p.value().copy() for name, p in self._lowered.parameters.items()}

    def load_state_dict(self, given: Mapping[str, Any]) -> None:
        """Takes all parameters and buffers from arrays (or CPU tensors) under PyTorch's names and shapes."""
        parameters = self._lowered.parameters
        for name, value in state.checked(parameters, given, self.name).items():
            parameters[name].set(value)

    # As JSON
    def config(self) -> dict[str, Any]:
        """The network as JSON-able values, without its parameters; from_config() builds it again."""
        return config.describe(config.Parts(self.name, self.inputs, self.outputs, self.latent), self.layers, self.calls)

    @classmethod
    def from_config(cls: type[_N], described: dict[str, Any]) -> _N:
        """The network that config() described, with fresh parameters. DataError where it names a layer class not known here."""
        parts = config.build(described)
        return cls(parts.inputs, parts.outputs, name=parts.name, latent=parts.latent)
