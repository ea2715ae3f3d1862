"""A network written into a graph of the core."""

from collections.abc import Sequence
from dataclasses import dataclass

from warploom import _core
from warploom.errors import GraphError
from warploom.ground.parameters import Parameter
from warploom.network.graph import Call, Tensor


@dataclass
class Lowered:
    """A network as a graph of the core."""

    graph: _core.Graph
    parameters: dict[str, Parameter]  # under their full names
    nodes: list[str]  # per call: the name of its node
    values: dict[int, int]  # ids in the graph, by id of the tensor


def lower(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], calls: Sequence[Call]) -> Lowered:
    """Writes a network into a graph of the core."""
    graph = _core.Graph(name)
    values = {id(t): graph.input(str(t.name), t.shape) for t in inputs}
    parameters: dict[str, Parameter] = {}
    ids: dict[int, int] = {}
    uses: dict[str, int] = {}
    nodes = []
    for call in calls:
        layer, layer_name = call.layer, str(call.layer.name)
        for suffix, parameter in layer.parameters.items():
            if id(parameter) not in ids:
                spec = parameter.spec
                full = f"{layer_name}.{suffix}"
                ids[id(parameter)] = graph.parameter(
                    full, spec.shape, init=spec.init, fan_in=spec.fan_in, fan_out=spec.fan_out, gain=spec.gain,
                    trainable=parameter.trainable and layer.trainable, buffer=spec.buffer,
                )  # fmt: skip
                parameters[full] = parameter
        uses[layer_name] = uses.get(layer_name, 0) + 1
        node = layer_name if uses[layer_name] == 1 else f"{layer_name}@{uses[layer_name]}"
        nodes.append(node)
        made = layer.lower(graph, node, [values[id(t)] for t in call.inputs], [ids[id(p)] for p in layer.parameters.values()])
        values.update((id(t), v) for t, v in zip(call.outputs, made, strict=True))
    try:
        graph.set_outputs([values[id(t)] for t in outputs])
    except KeyError:
        raise GraphError("an output is not reached from the inputs") from None
    return Lowered(graph, parameters, nodes, values)
