"""A model on a device: the core's graph and session, and the parameters kept in step with the layers that own them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from warploom import _core
from warploom._typing import Array, Floats
from warploom.errors import GraphError, UnsupportedError
from warploom.graph import Call, Tensor
from warploom.hardware import Choice
from warploom.interop import Array as DeviceArray

if TYPE_CHECKING:
    from warploom.layers.base import Parameter
    from warploom.losses import Loss
    from warploom.optim import Optimizer


@dataclass
class Lowered:
    """A network as a graph of the core."""

    graph: _core.Graph
    parameters: dict[str, "Parameter"]  # under their full names
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


class Engine:
    """A session and what it was made with."""

    def __init__(
        self,
        lowered: Lowered,
        choice: Choice,
        *,
        losses: "Sequence[Loss]" = (),
        optimizer: "Optimizer | None" = None,
        seed: int = 0,
        batch_size: int = 1,
        redraw: bool = False,
        plan_only: bool = False,
        precision: str = "fp32",
    ) -> None:
        """redraw: what was neither trained nor loaded is drawn again from the seed. plan_only: nothing is allocated."""
        self.names = lowered.parameters
        self._values = lowered.values
        self.optimizer = optimizer
        self.training = bool(losses)
        self.loss_labels: list[str] = []  # by the model, which knows its outputs' names
        self.note = choice.note
        loss_configs = [loss.config() for loss in losses] or None
        refusals = []
        for version in choice.versions:
            session = _core.Session(
                lowered.graph, choice.device, version,
                losses=loss_configs, optimizer=optimizer.config() if optimizer else None, seed=seed, precision=precision,
                allocate=not plan_only,
            )  # fmt: skip
            try:
                session.memory(
                    batch_size, self.training
                )  # plans without allocating: the version takes the network or says why not
            except UnsupportedError as error:
                refusals.append(str(error))
                if len(choice.versions) == 1:
                    raise
                continue
            break
        else:
            raise UnsupportedError(f"no version on {choice.device} takes this network: {'; '.join(refusals)}")
        if refusals:
            self.note = f"{choice.note + '; ' if choice.note else ''}version {version} runs, because {'; '.join(refusals)}"
        self.session = session
        self.device, self.version = choice.device, version
        self._hyper = optimizer.values() if optimizer else {}
        self._full_names = {id(p): name for name, p in self.names.items()}
        self._seen: dict[str, int] = {}
        for name, parameter in self.names.items() if not plan_only else ():
            if parameter.stamp == 0 or (redraw and parameter.pristine):
                parameter.held_by(self, pristine=True)
                self._seen[name] = parameter.stamp

    # Parameters
    def read(self, parameter: "Parameter") -> Floats:
        value: Floats = np.array(self.session.get_parameter(self._full_names[id(parameter)]), dtype=np.float32)
        return value

    def sync(self) -> None:
        """Takes over what other models or the user changed since the last call."""
        for name, parameter in self.names.items():
            if self._seen.get(name) != parameter.stamp:
                self.session.set_parameter(name, parameter.value())
                self._seen[name] = parameter.stamp
        if self.optimizer is not None:
            values = self.optimizer.values()
            changed = {name: value for name, value in values.items() if value != self._hyper.get(name)}
            if changed:
                self.session.set_optimizer(**changed)
                self._hyper = values

    def changed(self) -> None:
        """A training step has changed every parameter."""
        for name, parameter in self.names.items():
            parameter.held_by(self)
            self._seen[name] = parameter.stamp

    def release(self) -> None:
        """Before the engine is dropped: values only it holds go back to the layers."""
        for parameter in self.names.values():
            parameter.release(self)

    # Running
    def train_step(self, inputs: list[Array], targets: list[Array]) -> float:
        self.sync()
        self.session.train_step(inputs, targets)
        self.changed()
        return self.session.loss()

    def each_loss(self) -> dict[str, float]:
        """The last value of every loss, times its weight; nothing where there is but one."""
        if len(self.loss_labels) < 2:
            return {}
        return dict(zip(self.loss_labels, self.session.losses(), strict=True))

    def gradients(self, inputs: list[Array], targets: list[Array], *, training: bool = True) -> dict[str, Floats]:
        """training=False: normalisations use their running statistics. Nothing is updated, running statistics neither."""
        self.sync()
        buffers = {name: self.session.get_parameter(name) for name, p in self.names.items() if p.spec.buffer}
        gradients = self.session.gradients(inputs, targets, not training)
        for name, value in buffers.items() if training else ():
            self.session.set_parameter(name, value)
        return gradients

    def predict(self, inputs: list[Array], wanted: Sequence[Tensor], out: list[DeviceArray] | None = None) -> list[Any]:
        """The values of those tensors of the network, into `out` if given; what they do not need is not computed."""
        self.sync()
        given = [a if isinstance(a, DeviceArray) else np.ascontiguousarray(a) for a in inputs]
        return self.session.predict(given, [self._values[id(t)] for t in wanted], out)

    def memory(self, batch_size: int) -> dict[str, int]:
        return self.session.memory(batch_size, self.training)

    def explain(self, batch_size: int) -> list[dict[str, Any]]:
        return self.session.explain(batch_size, self.training)

    def refusals(self, batch_size: int) -> list[str]:
        """Fusions that were offered and refused, a sentence each."""
        return self.session.refusals(batch_size, self.training)
