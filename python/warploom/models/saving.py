"""Models from files that Model.save() wrote."""

from functools import lru_cache
from pathlib import Path

from warploom.errors import ArgumentError, DataError, GraphError
from warploom.ground.atomic import read_tensors
from warploom.model import Model
from warploom.models.objective import Objective
from warploom.models.registry import BY_NAME, objective
from warploom.network.config import FORMAT, FORMATS

_OF_A_RUN = "model.safetensors"


def is_saved(name: str | Path) -> bool:
    """Whether it is meant as the file of a model or the folder of a run, and not as a model's name."""
    path = Path(name)
    try:
        if path.is_dir() and str(name) in BY_NAME:  # `--out unet_small` made it
            return (path / _OF_A_RUN).is_file()
        return path.suffix == ".safetensors" or path.exists()
    except OSError:  # no path at all, such as one that is too long
        return False


@lru_cache(maxsize=8)
def objective_of(path: str) -> Objective:
    """How a saved network is trained further: as its kind is, else what an autoencoder of images is trained for."""
    model = load_model(path)
    if model.name in BY_NAME:
        return objective(model.name, size=model.inputs[0].shape[1], mask=len(model.outputs) > 2)
    if len(model.inputs) == len(model.outputs) == 1 and model.inputs[0].shape == model.outputs[0].shape:
        return Objective(losses=(("MSE", {}),), optimizer=("Adam", {"lr": 1e-3}), batch_size=64, epochs=20, data="images")
    raise DataError(
        f"{path}: the network {model.name!r} does not reconstruct its input, and what it is trained for stands in no file: "
        "train it from Python (warploom.load, compile, fit)"
    )


def load_model(path: str | Path) -> Model:
    """A model from a file of Model.save(): network, names and parameters; ready to predict, to compile for training.

    path: the file, or the folder of a `warploom train` run, whose model.safetensors is meant."""
    path = Path(path)
    if path.is_dir():
        if not (path / _OF_A_RUN).is_file():
            raise DataError(f"the folder {path} holds no {_OF_A_RUN}: expected the folder of a run, or a .safetensors file")
        path = path / _OF_A_RUN
    tensors, metadata = read_tensors(path)
    found = metadata.get("format")
    if isinstance(found, str) and found.startswith("warploom-model-") and found not in FORMATS:
        raise DataError(
            f"{path} has the format {found}, written by another version of warploom; this one reads {FORMAT} and older"
        )
    if found not in FORMATS or "graph" not in metadata:
        raise DataError(
            f"{path} is a .safetensors file without a warploom network in it; build the model and use "
            "model.load_state_dict(safetensors.numpy.load_file(path))"
        )
    try:
        model = Model.from_config(metadata["graph"])
        model.load_state_dict(tensors)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, GraphError) as error:
        detail = str(error) if isinstance(error, (ArgumentError, GraphError)) else f"{type(error).__name__}: {error}"
        raise DataError(f"{path} does not describe a network that can be built: {detail}") from error
    return model
