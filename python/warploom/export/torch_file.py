"""Networks for PyTorch: a state dict, and a module that takes it."""

from pathlib import Path

from warploom import interop
from warploom.data.scaling import Scaling
from warploom.errors import ArgumentError
from warploom.export.part import Part, part_of
from warploom.export.torch_ops import folds, translate
from warploom.export.torch_source import Source, class_name
from warploom.ground import halves
from warploom.ground.atomic import expanded, write_atomically, write_tensors
from warploom.model import Model

ENDINGS = (".safetensors", ".pt", ".pth")
_LINE = 90  # characters, at most, of a line that holds more than one step


def write_torch(
    model: Model,
    path: str | Path,
    *,
    part: str = "whole",
    skips: bool = False,
    dtype: str = "fp32",
    scaling: str | Scaling | None = None,
) -> tuple[Path, Path]:
    """Writes a state dict (.safetensors, .pt or .pth) and beside it a PyTorch module (.py); returns both paths.

    The module's parameters have the network's names: its load_state_dict takes the file strictly, and it computes what the
    network does, in training too. part, skips, scaling: as in warploom.export.onnx; the scaling stands
    in the module's docstring. dtype: "fp32", "fp16" or "bf16", of the state dict.

    StateError for a .pt file without PyTorch; DataError where a value is too large for fp16; UnsupportedError where a layer of
    your own uses an operation that has no translation.
    """
    path = expanded(path)
    if path.suffix not in ENDINGS:
        raise ArgumentError(f"{path} does not end in one of {', '.join(ENDINGS)}")
    chosen = part_of(model, part, skips=skips, scaling=scaling)
    code = path.with_name(f"{module_name(path.stem)}.py")
    text = source(chosen, code.stem, path.name)
    if path.suffix == ".safetensors":
        write_tensors(path, chosen.parameters, {"format": "warploom-state-1", "name": chosen.name}, dtype=dtype)
    else:
        state = {name: halves.rounded(array, dtype, name) for name, array in chosen.parameters.items()}
        write_atomically(path, interop.torch_file(state, dtype))
    write_atomically(code, text.encode())
    return path, code


def module_name(name: str) -> str:
    """A name that `import` takes."""
    made = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
    return made if made.isidentifier() else f"net_{made}"


def source(part: Part, module: str, file: str) -> str:
    """The Python source of the module. file: of the state dict, for the docstring."""
    made = Source(part)
    arguments = [made.variable(value) for value in part.inputs]
    body = _forward(part, made)
    name = class_name(part.name)
    load = f"torch.load({file!r}, weights_only=True)"
    if file.endswith(".safetensors"):
        load = f"safetensors.torch.load_file({file!r})"
    sizes = [[f"        {v.name} [N, {', '.join(map(str, v.shape))}]" for v in vs] for vs in (part.inputs, part.outputs)]
    told = [f": {part.intakes[v.name].told()}" if v.name in part.intakes else "" for v in part.inputs]
    takes = [size + text for size, text in zip(sizes[0], told, strict=True)]
    lines = [
        f'"""{part.name}, written by warploom.', "", f"    from {module} import {name}", "", f"    net = {name}().eval()",
        f"    net.load_state_dict({load})", '"""', "", "import torch", "from torch import nn",
        "from torch.nn import functional as F", "", "", f"class {name}(nn.Module):",
        '    """float32 in and out.', "", "    takes", *takes, "    returns", *sizes[1], '    """', "",
        "    def __init__(self):", "        super().__init__()", *(f"        {line}" for line in made.assignments()), "",
        f"    def forward(self, {', '.join(arguments)}):", *(f"        {line}" for line in body), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _forward(part: Part, made: Source) -> list[str]:
    """A line per step; activations and norms stand in the line of what they follow. What only the next step reads is called h."""
    readers: dict[str, set[int]] = {}
    for number, step in enumerate(part.steps):
        for value in step.inputs:
            readers.setdefault(value.name, set()).add(number)
    for value in part.outputs:
        readers.setdefault(value.name, set()).add(len(part.steps))
    lines: list[str] = []
    last = ""  # the value of h, where the line before has just set it
    for number, step in enumerate(part.steps):
        inputs = [made.held(value) for value in step.inputs]
        expression = translate(made, step, inputs)
        if last and inputs == ["h"] and folds(step):
            folded = translate(made, step, [last])
            if len(folded) <= _LINE:
                expression = folded
                lines.pop()
        passing = readers.get(step.output.name, set()) <= {number + 1}
        variable = made.variable(step.output, "h" if passing else None)
        if variable == expression:  # another name for h, which stays as it is
            continue
        lines.append(f"{variable} = {expression}")
        last = expression if passing else ""
    return [*lines, f"return {', '.join(made.held(value) for value in part.outputs)}"]
