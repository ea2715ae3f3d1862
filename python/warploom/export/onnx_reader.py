"""Networks from the ONNX files that warploom wrote: the network stands in the metadata, its parameters are the initializers."""

import json
from pathlib import Path

from warploom.errors import DataError
from warploom.export.onnx_file import PREFIX
from warploom.export.onnx_graph import need_onnx
from warploom.ground.array_types import Array
from warploom.ground.atomic import expanded
from warploom.model import Model

_WORDS = 200  # characters of a reason that is passed on


def read_onnx(path: str | Path) -> Model:
    """The network of an ONNX file that warploom.export.onnx wrote of a whole network or of its encoder.

    Its parameters may have been changed since, the graph not: the nodes are not looked at. StateError without the package onnx;
    DataError in one sentence for any other file.
    """
    onnx = need_onnx()
    path = expanded(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    content = path.read_bytes()
    try:
        message = onnx.load_model_from_string(content)
        said = {entry.key: entry.value for entry in message.metadata_props}
        if f"{PREFIX}graph" not in said:
            raise DataError("it holds no network of warploom: only whole networks and encoders that warploom exported are read")
        model = Model.from_config(json.loads(said[f"{PREFIX}graph"]))
        wanted = model.named_parameters()
        state: dict[str, Array] = {}
        for tensor in message.graph.initializer:
            if tensor.name in wanted:
                if onnx.external_data_helper.uses_external_data(tensor):
                    raise DataError(f"{tensor.name} lies in another file, which is not read")
                state[tensor.name] = onnx.numpy_helper.to_array(tensor)
        model.load_state_dict(state)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # damaged bytes can fail in any way, but only inside this function
        reason = (str(error) or type(error).__name__).splitlines()[0][:_WORDS]
        raise DataError(f"{path} is damaged or no ONNX file of a network of warploom ({reason})") from error
    return model
