"""Which calls make a network, in which order, and how its inputs and layers are named."""

from collections.abc import Sequence

from warploom.errors import ArgumentError, DTypeError, GraphError
from warploom.network.graph import Call, Layer, Tensor


def calls_between(inputs: list[Tensor], outputs: list[Tensor]) -> list[Call]:
    """The calls that lead from the inputs to the outputs, in an order in which they can be computed."""
    known, used = set(map(id, inputs)), set()
    found: dict[int, Call] = {}
    todo = list(outputs)
    while todo:
        tensor = todo.pop()
        if id(tensor) in known:
            used.add(id(tensor))
        elif tensor.call is None:
            raise GraphError(
                f"the outputs depend on the input {tensor.name or tensor.shape!r}, which is not among the model's inputs"
            )
        elif tensor.call.serial not in found:
            found[tensor.call.serial] = tensor.call
            todo.extend(tensor.call.inputs)
    for tensor in inputs:
        if id(tensor) not in used:
            raise GraphError(f"the input {tensor.name or tensor.shape!r} leads to none of the outputs: leave it out or use it")
    return [found[serial] for serial in sorted(found)]


def numbered(base: str, taken: set[str], used: dict[str, int]) -> str:
    """A name not yet taken: base_1, base_2, …; used: the last number of each base, so that long networks are named quickly."""
    while True:
        used[base] = used.get(base, 0) + 1
        name = f"{base}_{used[base]}"
        if name not in taken:
            return name


def calls_to(tensor: Tensor) -> list[Call]:
    """Every call that the tensor depends on."""
    found: dict[int, Call] = {}
    todo = [tensor]
    while todo:
        call = todo.pop().call
        if call is not None and call.serial not in found:
            found[call.serial] = call
            todo.extend(call.inputs)
    return list(found.values())


def name_everything(model: str, inputs: list[Tensor], layers: list[Layer]) -> None:
    """Names what the user left unnamed (conv2d_1, …, input); GraphError where two names are the same."""
    taken: set[str] = set()
    for layer in layers:
        if layer.name in taken:
            raise GraphError(f"model {model!r}: two layers are named {layer.name!r}; names must differ")
        if layer.name is not None:
            taken.add(layer.name)
    used: dict[str, int] = {}
    for layer in layers:
        if layer.name is None:
            layer.name = numbered(layer.stem, taken, used)
            taken.add(layer.name)
    given = [t.name for t in inputs if t.name is not None]
    names = set(given)
    if len(names) < len(given):
        raise GraphError(f"model {model!r}: two inputs have the same name; names must differ")
    used = {"input": 1}  # input, input_2, …
    for tensor in inputs:
        if tensor.name is None:
            tensor.name = numbered("input", names, used) if "input" in names else "input"
            names.add(tensor.name)


def given_tensors(value: Tensor | Sequence[Tensor], what: str) -> list[Tensor]:
    """The inputs or outputs that a user gave to Model, as a list of different tensors."""
    given: list[object] = list(value) if isinstance(value, (list, tuple)) else [value]
    tensors: list[Tensor] = []
    for tensor in given:
        if not isinstance(tensor, Tensor):
            raise DTypeError(f"Model: {what} must be tensors (from warploom.Input or a layer), not {type(tensor).__name__}")
        tensors.append(tensor)
    if not tensors:
        raise ArgumentError(f"Model: {what} must not be empty")
    if len({id(t) for t in tensors}) < len(tensors):
        raise ArgumentError(f"Model: one of the {what} is given twice")
    return tensors
