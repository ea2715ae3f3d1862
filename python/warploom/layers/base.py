"""The base of all layers, and the parameters they own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from warploom import _core
from warploom._typing import Floats, Shape
from warploom.errors import ArgumentError, DTypeError
from warploom.graph import Call, Tensor, check_name

if TYPE_CHECKING:
    from warploom.engine import Engine


@dataclass(frozen=True)
class ParameterSpec:
    """What a layer asks for: shape in PyTorch's order and how it starts."""

    suffix: str  # "weight" becomes "<layer name>.weight"
    shape: Shape
    init: str = "zeros"
    fan_in: int = 0
    fan_out: int = 0
    gain: float = 1.0
    trainable: bool = True
    buffer: bool = False  # part of the state, but neither trained nor counted: running statistics


class Parameter:
    """A trained array. Models made of the same layer share it: whichever engine changed it last holds its value."""

    def __init__(self, spec: ParameterSpec) -> None:
        self.spec = spec
        self.trainable = spec.trainable
        self.pristine = True  # neither trained nor loaded: a new seed may redraw it
        self.stamp = 0  # grows with every change; 0: no value yet
        self._value: Floats | None = None
        self._holder: Engine | None = None

    def held_by(self, engine: "Engine", *, pristine: bool = False) -> None:
        """The engine has changed the value."""
        self.stamp += 1
        self.pristine = pristine
        self._holder, self._value = engine, None

    def set(self, value: Floats) -> None:
        self.stamp += 1
        self.pristine = False
        self._holder, self._value = None, value

    def value(self) -> Floats:
        """The current value; only once stamp > 0."""
        if self._value is None:
            assert self._holder is not None
            self._value = self._holder.read(self)
        return self._value

    def release(self, engine: "Engine") -> None:
        """The engine goes away: keep what only it knows."""
        if self._holder is engine:
            self.value()
            self._holder = None


class Layer:
    """A layer is made once and called on tensors, any number of times; its parameters are made at the first call.

    A new layer is a subclass that names its operation of the core in `op` and overrides parameters_for() and attributes();
    shape rule, kernels and gradient are the core's. It is saved and loaded by its class name and config().
    """

    op: ClassVar[str] = ""
    registry: ClassVar[dict[str, type["Layer"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Layer.registry[cls.__name__] = cls

    def __init__(self, name: str | None = None) -> None:
        if name is not None:
            check_name(name, "layer")
        self.name = name  # given by the first model that holds the layer where the user gave none
        self.parameters: dict[str, Parameter] = {}
        self.trainable = True
        self._built: list[ParameterSpec] | None = None

    # What a subclass says about itself
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able."""
        return {}

    def attributes(self) -> dict[str, Any]:
        """The attributes of the core's operation."""
        return {}

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        """The parameters that inputs of these shapes call for."""
        return []

    def lower(self, graph: _core.Graph, name: str, inputs: list[int], parameters: list[int]) -> list[int]:
        """Adds the layer's nodes to a graph of the core; further nodes of one layer are named "name/part"."""
        return graph.node(self.op, name, inputs, parameters, self.attributes())

    # What the package does with it
    @property
    def base_name(self) -> str:
        """conv2d for Conv2d, leaky_relu for LeakyReLU: what automatic names start with."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__.replace("ReLU", "Relu").replace("RMSN", "RmsN")).lower()

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.config().items())
        return f"{type(self).__name__}({arguments})" if self.name is None else f"{type(self).__name__} {self.name!r}"

    def __call__(self, *inputs: Tensor | Sequence[Tensor]) -> Tensor:
        tensors = self._tensors(inputs)
        shapes = [t.shape for t in tensors]
        specs = self.parameters_for(shapes)
        if self._built is None:
            pass
        elif specs != self._built:
            was = ", ".join(f"{s.suffix} {s.shape}" for s in self._built)
            now = ", ".join(f"{s.suffix} {s.shape}" for s in specs)
            raise ArgumentError(f"{self} is shared, but its calls need different parameters: {was} before, {now} now")
        call = Call(self, tensors, self._infer(shapes, specs))
        if self._built is None:
            self._built = specs
            self.parameters = {spec.suffix: Parameter(spec) for spec in specs}
        return call.outputs[0]

    def _tensors(self, inputs: tuple[Tensor | Sequence[Tensor], ...]) -> tuple[Tensor, ...]:
        flat: list[object] = []
        for value in inputs:
            flat.extend(value if isinstance(value, (list, tuple)) else [value])
        for item in flat:
            if isinstance(item, np.ndarray):
                raise DTypeError(
                    f"{self} builds a network and takes tensors from warploom.Input, not arrays; see warploom.ops for arrays"
                )
            if not isinstance(item, Tensor):
                raise DTypeError(f"{self} takes tensors from warploom.Input or from other layers, not {type(item).__name__}")
        if not flat:
            raise ArgumentError(f"{self} was called without an input")
        return tuple(value for value in flat if isinstance(value, Tensor))

    def _infer(self, shapes: list[Shape], specs: list[ParameterSpec]) -> list[Shape]:
        """Output shapes by the core's own rule, on a graph of this one layer; GraphError names the layer."""
        graph = _core.Graph("shapes")
        inputs = [graph.input(f"x{i}", shape) for i, shape in enumerate(shapes)]
        parameters = [graph.parameter(spec.suffix, spec.shape) for spec in specs]
        outputs = self.lower(graph, self.name or self.base_name, inputs, parameters)
        return [tuple(graph.shape(v)) for v in outputs]
