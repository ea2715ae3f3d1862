"""An ONNX graph as it is written: nodes, constants, and names that occur once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from warploom.errors import StateError
from warploom.export.part import Step, Value
from warploom.ground.array_types import Array, Shape

OPSET, IR = 18, 8  # IR 8 is the one that came with opset 18: older readers take the file too
BATCH = "batch"  # the name of the axis that may have any length


def need_onnx() -> Any:
    """The onnx package; StateError with the command that installs it."""
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise StateError("an export to ONNX needs the package onnx: pip install onnx") from None
    return onnx


class Graph:
    """Nodes in order, constants by name."""

    def __init__(self) -> None:
        self._onnx = need_onnx()
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = {}  # of steps' outputs, without the batch axis
        self._taken: set[str] = set()
        self._fed: dict[str, str] = {}  # what a value of the part is called here, where that differs

    def hold(self, arrays: dict[str, Array]) -> None:
        """Constants under names of their own."""
        self.constants |= arrays
        self._taken |= arrays.keys()

    def take(self, name: str) -> str:
        """The name, longer if it is taken."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def feed(self, value: Value, name: str) -> None:
        """From now on the value of the part is what is called `name` here."""
        self._fed[value.name] = name

    def read(self, step: Step) -> list[str]:
        return [self._fed.get(value.name, value.name) for value in step.inputs]

    def named(self, value: Value) -> str:
        return self._fed.get(value.name, value.name)

    def shape(self, constant: str) -> Shape:
        return tuple(self.constants[constant].shape)

    def node(self, op: str, inputs: Sequence[str], output: str, name: str = "", **attributes: Any) -> str:
        """A node under the name of its output, or another one; returns the output."""
        self.nodes.append(self._onnx.helper.make_node(op, list(inputs), [output], name=name or output, **attributes))
        return output

    def pair(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """A node with several outputs, under the name of the first."""
        self.nodes.append(self._onnx.helper.make_node(op, list(inputs), list(outputs), name=outputs[0], **attributes))

    def add(self, step: Step, part: str, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node before the last one of a step."""
        return self.node(op, inputs, self.take(f"{step.name}/{part}"), **attributes)

    def finish(self, step: Step, op: str, inputs: Sequence[str], **attributes: Any) -> None:
        """The last node of a step, which makes its output."""
        self.shapes[step.output.name] = step.output.shape
        self.node(op, inputs, step.output.name, step.name, **attributes)

    def constant(self, step: Step, part: str, array: Array) -> str:
        return self.held(f"{step.name}/{part}", array)

    def held(self, name: str, array: Array) -> str:
        """A constant under that name, or a longer one."""
        name = self.take(name)
        self.constants[name] = array
        return name

    def number(self, step: Step, part: str, value: float) -> str:
        return self.constant(step, part, np.array(value, np.float32))

    def described(self, name: str, shape: Sequence[int | str], dtype: Any = np.float32, doc: str = "") -> Any:
        """The type and shape of a value; the batch axis is put in front."""
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._onnx.helper.make_tensor_value_info(name, kind, [BATCH, *shape], doc)

    def made(self, name: str, inputs: list[Any], outputs: list[Any], doc: str) -> Any:
        """The graph as a message of ONNX."""
        known = {value.name for value in [*inputs, *outputs]}
        between = [self.described(n, shape) for n, shape in self.shapes.items() if n not in known]
        constants = [self._onnx.numpy_helper.from_array(np.ascontiguousarray(a), n) for n, a in self.constants.items()]
        return self._onnx.helper.make_graph(self.nodes, name, inputs, outputs, constants, doc, value_info=between)
