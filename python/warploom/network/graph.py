"""What a network is written with, before any number is computed: tensors, layers, and the calls of layers on tensors."""

import inspect
import itertools
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from warploom import _core
from warploom.errors import ArgumentError, DTypeError, StateError
from warploom.ground.array_types import Shape
from warploom.ground.arrays import positive
from warploom.ground.parameters import Parameter, ParameterSpec

_serial = itertools.count()


class Tensor:
    """A value of a network: its shape (without the batch axis) and the call that makes it."""

    def __init__(self, shape: Shape, call: "Call | None" = None, index: int = 0, name: str | None = None) -> None:
        self.shape = shape
        self.call = call  # None: an input
        self.index = index  # among the call's outputs
        self.name = name  # of an input; given by the first model that uses it where the user gave none

    def __repr__(self) -> str:
        source = f"input {self.name!r}" if self.call is None else f"output of {self.call.layer}"
        return f"<Tensor {'x'.join(map(str, self.shape))}, {source}>"

    def __add__(self, other: "Tensor") -> "Tensor":
        return Layer.registry["Add"]()([self, other])

    def __mul__(self, other: "Tensor") -> "Tensor":
        return Layer.registry["Multiply"]()([self, other])


class Call:
    """One use of a layer. A layer called twice shares its parameters between the calls."""

    def __init__(self, layer: "Layer", inputs: tuple[Tensor, ...], shapes: list[Shape]) -> None:
        self.layer = layer
        self.inputs = inputs
        self.outputs = tuple(Tensor(shape, self, i) for i, shape in enumerate(shapes))
        self.serial = next(_serial)  # a call's inputs exist before it, so this orders calls so that they can be computed


class Layer:
    """A layer is made once and called on tensors, any number of times; its parameters are made at the first call.

    A new layer is a subclass that names its operation of the core in `op` and overrides parameters_for() and attributes();
    shape rule, kernels and gradient are the core's. It is saved and loaded by its class name and config().
    """

    op: ClassVar[str] = ""
    stem: ClassVar[str] = ""  # what automatic names start with; by default the class's name in lower case: conv2d, max_pool2d
    marks_latent: ClassVar[bool] = False  # its output is the network's latent
    drawn_as: ClassVar[str] = "other"  # the kind of box in a picture; "": drawn as part of what it follows
    registry: ClassVar[dict[str, type["Layer"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Layer.registry[cls.__name__] = cls
        if "stem" not in cls.__dict__:
            cls.stem = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, name: str | None = None) -> None:
        if name is not None:
            check_name(name, "layer")
        self.name = name  # given by the first model that holds the layer where the user gave none
        self.parameters: dict[str, Parameter] = {}
        self.trainable = True
        self._built: list[ParameterSpec] | None = None

    # What a subclass says about itself
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-able: each is kept under its own name."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "name"]
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            kind = type(self).__name__
            raise StateError(f"layer {kind} does not keep its argument {missing[0]}: set self.{missing[0]}, or override config()")
        return {name: getattr(self, name) for name in names}

    def attributes(self) -> dict[str, Any]:
        """The attributes of the core's operation."""
        return {}

    def parameters_for(self, shapes: list[Shape]) -> list[ParameterSpec]:
        """The parameters that inputs of these shapes call for."""
        return []

    def penalties(self) -> list[tuple[str, float]]:
        """(kind of loss, weight): what the layer's first input adds to every loss that its network is trained with."""
        return []

    def lower(self, graph: _core.Graph, name: str, inputs: list[int], parameters: list[int]) -> list[int]:
        """Adds the layer's nodes to a graph of the core; further nodes of one layer are named "name/part"."""
        return graph.node(self.op, name, inputs, parameters, self.attributes())

    # What the package does with it
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
        outputs = self.lower(graph, self.name or self.stem, inputs, parameters)
        return [tuple(graph.shape(v)) for v in outputs]


def Input(shape: Shape, name: str | None = None) -> Tensor:
    """What the user feeds: shape without the batch axis, such as (3, 32, 32)."""
    try:
        sizes = tuple(positive(s, "a size in the shape of an Input") for s in shape)
    except TypeError as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"the shape of an Input must be a tuple such as (3, 32, 32), not {shape!r}") from None
    if not sizes:
        raise ArgumentError("an Input needs a shape without the batch axis, such as (3, 32, 32)")
    if name is not None:
        check_name(name, "input")
    return Tensor(sizes, name=name)


def check_name(name: object, what: str) -> None:
    """Names become keys of state dicts and of files, with dots between their parts."""
    if not isinstance(name, str) or not name or not all(part.replace("-", "_").isidentifier() for part in name.split(".")):
        raise ArgumentError(f"{what} name {name!r} is not usable: letters, digits, '_' and '-', with dots between parts")
