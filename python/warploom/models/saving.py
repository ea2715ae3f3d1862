"""Models from files that Model.save() wrote."""

from pathlib import Path

from warploom.errors import ArgumentError, DataError, GraphError
from warploom.ground.atomic import read_tensors
from warploom.model import Model
from warploom.network.config import FORMAT


def load_model(path: str | Path) -> Model:
    """A model from a file of Model.save(): network, names and parameters; ready to predict, to compile for training."""
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT or "graph" not in metadata:
        raise DataError(
            f"{path} is a .safetensors file without a warploom network in it; build the model and use "
            "model.load_state_dict(safetensors.numpy.load_file(path))"
        )
    try:
        model = Model.from_config(metadata["graph"])
        model.load_state_dict(tensors)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, GraphError) as error:
        detail = str(error) if isinstance(error, (ArgumentError, GraphError)) else f"{type(error).__name__}: {error}"
        raise DataError(f"{path} does not describe a network that can be built: {detail}") from error
    return model
