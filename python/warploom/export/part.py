"""The part of a network that is exported: its operations in order, under the names that the network gives them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from warploom import models
from warploom.data.scaling import Intake, Scaling
from warploom.data.tasks import intake
from warploom.errors import ArgumentError, GraphError
from warploom.ground.array_types import Floats, Shape
from warploom.model import Model

PARTS = ("whole", "encoder", "decoder")


@dataclass(frozen=True)
class Value:
    """What flows between operations."""

    name: str
    shape: Shape  # without the batch axis
    number: int  # in the core's graph


@dataclass(frozen=True)
class Step:
    """One operation of the core: what a layer does, or a piece of it."""

    name: str  # the layer's, with @2 where it is called again, and with /part where it is made of several
    op: str
    inputs: list[Value]
    output: Value
    parameters: list[str]  # full names, in the operation's order
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Steps from inputs to outputs, and the parameters that they read."""

    kind: str  # one of PARTS
    name: str
    inputs: list[Value]
    outputs: list[Value]
    steps: list[Step]
    parameters: dict[str, Floats] = field(repr=False)
    intakes: dict[str, Intake] = field(default_factory=dict)  # what inputs that are images take of them, by name


def part_of(model: Model, kind: str = "whole", *, skips: bool = False, scaling: str | Scaling | None = None) -> Part:
    """The whole network, its encoder (up to the latent) or its decoder (what follows).

    skips: what goes around the latent is an output of the encoder and an input of the decoder, besides the latent. Without it,
    the decoder of a network with skips is a GraphError that names them. scaling: what it takes of images: a kind of data, a
    Scaling, or None: as networks of its name are trained.
    """
    if kind not in PARTS:
        raise ArgumentError(f"unknown part {kind!r} of a network; expected one of {', '.join(PARTS)}")
    lowered = model.lowered()
    graph = lowered.graph.describe()
    nodes = graph["nodes"]
    if kind == "whole":
        inputs, outputs, chosen = graph["inputs"], graph["outputs"], list(range(len(nodes)))
    else:
        inputs, outputs, chosen = _cut(model, graph, kind, lowered.values[id(model.require_latent())], skips)
    part = _assembled(model, graph, kind, inputs, outputs, chosen)
    return replace(part, intakes=_intakes(model, part, scaling))


def _cut(model: Model, graph: dict[str, Any], kind: str, latent: int, skips: bool) -> tuple[list[int], list[int], list[int]]:
    """Inputs, outputs and nodes of the encoder or the decoder."""
    nodes, makers = graph["nodes"], [value["producer"] for value in graph["values"]]
    encoding, _ = _behind([latent], nodes, makers, set())
    decoding, read = _behind(graph["outputs"], nodes, makers, {latent, *(v for i in encoding for v in nodes[i]["outputs"])})
    given = {v for i in encoding for v in nodes[i]["inputs"]}  # inputs of the network among them
    around = [v for v in read if v != latent and (makers[v] >= 0 or v in given)]
    if kind == "encoder":
        inputs = [v for v in graph["inputs"] if v in given or v == latent]
        return inputs, [latent, *(around if skips else [])], encoding
    if around and not skips:
        names = ", ".join(graph["values"][v]["name"] for v in around)
        raise GraphError(
            f"the decoder of model {model.name!r} reads {names} besides the latent: export encoder and decoder with skips "
            "(--skips), and feed the one's outputs to the other, or export the whole network"
        )
    made = {v for i in decoding for v in nodes[i]["outputs"]}
    outputs = [v for v in graph["outputs"] if v in made]
    if not outputs:
        raise GraphError(f"model {model.name!r} has no decoder: nothing follows its latent")
    rest = [v for v in read if v != latent and v not in around]
    return [latent, *around, *rest], outputs, decoding


def _behind(
    wanted: Iterable[int], nodes: list[dict[str, Any]], makers: list[int], known: set[int]
) -> tuple[list[int], list[int]]:
    """The nodes that make the wanted values out of known ones and of inputs, and the values that they begin with; in order."""
    found: set[int] = set()
    read: set[int] = set()
    todo = list(wanted)
    while todo:
        value = todo.pop()
        if value in known or makers[value] < 0:
            read.add(value)
        elif makers[value] not in found:
            found.add(makers[value])
            todo.extend(nodes[makers[value]]["inputs"])
    return sorted(found), sorted(read)


def _assembled(model: Model, graph: dict[str, Any], kind: str, inputs: list[int], outputs: list[int], chosen: list[int]) -> Part:
    names = {entry["id"]: entry["name"] for entry in graph["parameters"]}
    taken = {*names.values()}
    values: dict[int, Value] = {}
    for number in [*inputs, *(v for i in chosen for v in graph["nodes"][i]["outputs"])]:
        name = graph["values"][number]["name"]
        while name in taken:  # an input may have a layer's name; a layer may be called conv.weight
            name += "_"
        taken.add(name)
        values[number] = Value(name, tuple(graph["values"][number]["shape"]), number)
    steps = []
    for node in (graph["nodes"][i] for i in chosen):
        (output,) = node["outputs"]
        steps.append(
            Step(
                node["name"], node["op"], [values[v] for v in node["inputs"]], values[output],
                [names[p] for p in node["parameters"]], node["attributes"],
            )
        )  # fmt: skip
    state = model.state_dict()
    read = {name: state[name] for step in steps for name in step.parameters}
    suffix = "" if kind == "whole" else f"-{kind}"
    return Part(kind, model.name + suffix, [values[v] for v in inputs], [values[v] for v in outputs], steps, read)


def _intakes(model: Model, part: Part, scaling: str | Scaling | None) -> dict[str, Intake]:
    """Of the inputs of the network that are maps of channels; a decoder has none."""
    kind = "images" if model.name not in models.BY_NAME else models.objective(model.name).data
    if isinstance(scaling, str):
        if scaling not in models.Objective.DATA:
            raise ArgumentError(f"unknown scaling {scaling!r}; expected one of {', '.join(models.Objective.DATA)}, or a Scaling")
        kind = scaling
    found = {}
    for value in part.inputs if part.kind != "decoder" else []:
        if len(value.shape) == 3:
            taken = Intake(scaling) if isinstance(scaling, Scaling) else intake(kind, value.number)
            numbers = 1 if taken.scaling is None else len(taken.scaling.mean)
            if numbers not in (1, value.shape[0]):
                raise ArgumentError(f"{numbers} means do not fit the input {value.name!r} of {value.shape[0]} channels")
            found[value.name] = taken
    return found
