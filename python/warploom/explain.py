"""What explains a network, as methods of Model. Each prints a table and returns it as an object whose rows can be read."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from warploom import _arrays, hardware, losses, optim
from warploom.batches import Arrays
from warploom.bypass import Bypass
from warploom.engine import Engine
from warploom.gradient_flow import GradientFlow
from warploom.summary import Summary
from warploom.trace import Trace

if TYPE_CHECKING:
    from warploom.model import Model


class Explained:
    """Base of Model."""

    @property
    def _model(self) -> "Model":
        return cast("Model", self)

    @property
    def node_names(self) -> list[str]:
        """A name per call: the layer's, with @2, @3, … from the second use of a shared layer on."""
        return self._model._lowered.nodes

    def summary(self, *, formulas: bool = False) -> Summary:
        """The layers: shapes, parameters (formulas=True: how each count comes about), work, receptive fields, activations."""
        return Summary(self._model, formulas=formulas).print()

    def trace(self, x: Arrays) -> Trace:
        """Shape, range, mean and deviation of the values after every layer, in inference."""
        return Trace(self._model, x).print()

    def gradient_flow(self, x: Arrays, y: Arrays | None = None) -> GradientFlow:
        """The norm of every parameter's gradient, flagged where there is none, where it vanishes and where it is NaN."""
        return GradientFlow(self._model, x, y).print()

    def bypass(self, x: Arrays, y: Any = None, *, output: int = 0) -> Bypass:
        """How much of an output comes through the skips and how much through the bottleneck: each is cut, and the PSNR compared.

        The target is y, else x where the output has its shape, else the whole network's own output.
        """
        return Bypass(self._model, x, y, output=output).print()

    def plot(self, path: str | Path) -> None:
        """Draws the network as a picture, .svg or .png."""
        from warploom.graph_plot import plot

        plot(self._model, path)

    def memory(self, batch_size: int | None = None) -> dict[str, int]:
        """Bytes by category for a training step (of an uncompiled model: with MSE and SGD) before anything is allocated."""
        size = self._model.batch_size if batch_size is None else _arrays.positive(batch_size, "batch_size")
        return self._planned(size).memory(size)

    def explain(self, batch_size: int | None = None) -> list[dict[str, Any]]:
        """The steps of a training step in order: kernel entry, version, what was fused, what was refused and why."""
        size = self._model.batch_size if batch_size is None else _arrays.positive(batch_size, "batch_size")
        return self._planned(size).explain(size)

    def _planned(self, batch_size: int) -> Engine:
        model = self._model
        if model._compiled is not None:
            return model.engine
        objective = losses.get("mse", len(model.outputs))
        choice = hardware.resolve()
        return Engine(model._lowered, choice, losses=objective, optimizer=optim.SGD(), batch_size=batch_size, plan_only=True)
