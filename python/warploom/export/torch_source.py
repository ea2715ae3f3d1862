"""The Python source of a PyTorch module while it is written: its sub-modules, and the names of what forward() computes."""

import keyword
import re

from warploom.errors import UnsupportedError
from warploom.export.part import Part, Step, Value
from warploom.ground.array_types import Shape

# What the modules of PyTorch have already: a layer of such a name is reached by self._modules["..."].
_ATTRIBUTES = """
    T_destination add_module affine apply bfloat16 bias buffers call_super_init children compile cpu cuda dilation double
    dump_patches eps eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule groups half in_channels
    in_features ipu kernel_size load_state_dict modules momentum mtia named_buffers named_children named_modules named_parameters
    num_batches_tracked num_channels num_features num_groups out_channels out_features output_padding padding padding_mode
    parameters register_backward_hook register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ reset_parameters
    reset_running_stats running_mean running_var set_extra_state set_submodule share_memory state_dict stride to to_empty
    track_running_stats train training transposed type weight xpu zero_grad
"""
RESERVED = frozenset(_ATTRIBUTES.split())
_OWN = frozenset({"self", "torch", "nn", "F", "h", "super", "tuple"})


def _plain(name: str) -> bool:
    """Whether it can stand in Python as it is. Identifiers with other than ASCII letters would be read as other ones."""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def class_name(name: str) -> str:
    """Cifar10Autoencoder of cifar10_autoencoder."""
    made = "".join(word[:1].upper() + word[1:] for word in re.split(r"[^0-9A-Za-z]+", name))
    return made if _plain(made) and made not in _OWN else "Network"


class Source:
    """Sub-modules by their paths, and variables by what they hold."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.modules: dict[str, str] = {}  # a path such as enc1.conv, and the expression that makes it
        self._variables: dict[str, str] = {}
        self._taken = set(_OWN)

    def shape(self, step: Step, suffix: str) -> Shape:
        """Of the parameter of a step; UnsupportedError where it has none of that name."""
        for name in step.parameters:
            if name.rpartition(".")[2] == suffix:
                return tuple(self.part.parameters[name].shape)
        raise _foreign(step)

    def module(self, step: Step, made: str, *suffixes: str) -> str:
        """The sub-module that holds the step's parameters, as forward() calls it. suffixes: what PyTorch calls them, in order."""
        path = step.parameters[0].rpartition(".")[0]
        if step.parameters != [f"{path}.{suffix}" for suffix in suffixes[: len(step.parameters)]]:
            raise _foreign(step)
        if self.modules.setdefault(path, made) != made:
            raise _foreign(step)
        return reached(path)

    def variable(self, value: Value, name: str | None = None) -> str:
        """What holds a value in forward(); a new name, unless one is given."""
        if name is None:
            name = re.sub(r"\W", "_", value.name, flags=re.ASCII).strip("_") or "x"
            name = name if _plain(name) else f"x_{name}"
            while name in self._taken:
                name += "_"
            self._taken.add(name)
        self._variables[value.name] = name
        return name

    def held(self, value: Value) -> str:
        return self._variables[value.name]

    def assignments(self) -> list[str]:
        """The lines that make the sub-modules; a parent before its children."""
        lines: list[str] = []
        for path in self.modules:
            parts = path.split(".")
            for depth in range(1, len(parts) + 1):
                place = ".".join(parts[:depth])
                line = f"{reached(place)} = {self.modules.get(place, 'nn.Module()')}"
                if line not in lines:
                    lines.append(line)
        return lines


def reached(path: str) -> str:
    """self.enc1.conv of enc1.conv."""
    made = "self"
    for name in path.split("."):
        plain = _plain(name) and name not in RESERVED and not name.startswith("_")
        made += f".{name}" if plain else f"._modules[{name!r}]"
    return made


def _foreign(step: Step) -> UnsupportedError:
    return UnsupportedError(
        f"layer {step.name!r} cannot be exported to PyTorch: no module there holds its parameters "
        f"({', '.join(step.parameters)}); an export to ONNX takes it"
    )
