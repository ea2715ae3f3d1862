"""The commands that lead to other programs and back: export, import."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from warploom import export as formats
from warploom import models
from warploom.cli.app import JsonOption, ModelArgument, app, load_network, table, warn_loudly
from warploom.cli.words import USE, complete_from, complete_models
from warploom.detect.detector import Detector
from warploom.errors import ArgumentError, DataError
from warploom.export.onnx_detector import OUTPUTS
from warploom.export.onnx_file import LAYOUTS
from warploom.export.part import part_of
from warploom.export.torch_file import module_name
from warploom.ground.atomic import expanded, metadata_of
from warploom.ground.halves import DTYPES
from warploom.ground.tables import Column
from warploom.inference.trained import open_trained
from warploom.model import Model
from warploom.models.saving import is_saved
from warploom.runs.recipe import parse_arguments

_TARGETS = ("onnx", "torch", "safetensors")


@app.command(rich_help_panel=USE)
def export(
    model: ModelArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="FORMAT", autocompletion=complete_from(_TARGETS),
            help="onnx; torch: a state dict and a PyTorch module; safetensors: warploom's own file, for --dtype.",
        ),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE",
            help="What to write. Default: in the run's folder or beside the file, under the network's name. "
            "For torch its ending says which: .safetensors, .pt or .pth.",
        ),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            "--part", metavar="PART", autocompletion=complete_from(formats.PARTS),
            help="whole, encoder (up to the latent) or decoder (what follows it).",
        ),
    ] = "whole",
    skips: Annotated[
        bool, typer.Option("--skips", help="Encoder and decoder pass on what goes around the latent, besides the latent.")
    ] = False,
    uint8: Annotated[
        str | None,
        typer.Option(
            "--uint8", metavar="LAYOUT", autocompletion=complete_from(LAYOUTS),
            help="onnx: takes uint8 images, nchw or nhwc, and scales them inside the graph.",
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype", metavar="TYPE", autocompletion=complete_from(DTYPES),
            help="torch, safetensors: fp32, fp16 or bf16, of the parameters in the file.",
        ),
    ] = "fp32",
    verify: Annotated[
        bool, typer.Option("--verify", help="onnx: run the file in ONNX Runtime and compare its outputs with the network's.")
    ] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Write a network or a detector for other programs: ONNX, PyTorch, half-size files."""
    if to not in _TARGETS:
        raise ArgumentError(f"--to {to}: expected one of {', '.join(_TARGETS)}")
    for option, given, takes in (
        ("--uint8", uint8 is not None, ("onnx",)),
        ("--verify", verify, ("onnx",)),
        ("--dtype", dtype != "fp32", ("torch", "safetensors")),
        ("--skips", skips, ("onnx", "torch")),
    ):
        if given and to not in takes:
            raise ArgumentError(f"{option} is for --to {' and '.join(takes)}, not for {to}: leave it out")
    if _is_detector(model):
        _detector(model, to, out, part, skips, uint8, verify, as_json)
        return
    network, kind = _opened(model)
    path = _place(model, network.name if part == "whole" else f"{network.name}-{part}", to, out, dtype)
    differences = []
    if to == "onnx":
        files = [formats.onnx(network, path, part=part, skips=skips, uint8=uint8, scaling=kind)]
        if verify:
            differences = formats.compare(network, path, part=part, skips=skips, uint8=uint8, scaling=kind)
    elif to == "torch":
        files = list(formats.torch(network, path, part=part, skips=skips, dtype=dtype, scaling=kind))
    else:
        _half(network, part).save(path, dtype=dtype)
        files = [path]
    ends: dict[str, Any] = {}
    if as_json and to != "safetensors":
        chosen = part_of(network, part, skips=skips)
        ends = {"inputs": {v.name: v.shape for v in chosen.inputs}, "outputs": {v.name: v.shape for v in chosen.outputs}}
    _report(files, part, ends, differences, as_json)


def _report(files: list[Path], part: str, ends: dict[str, Any], differences: list[formats.Difference], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"files": [str(f) for f in files], "part": part, **ends, "verified": [vars(d) for d in differences]}))
        return
    print(f"written to {' and '.join(map(str, files))}")
    if differences:
        table(
            "ONNX Runtime against warploom, random samples",
            ["output", Column("largest difference"), Column("largest value")],
            [[d.output, f"{d.largest_difference:.1e}", f"{d.largest_value:.3g}"] for d in differences],
            right=1,
        )


def _is_detector(model: str) -> bool:
    return is_saved(model) and str(metadata_of(expanded(model)).get("format")).startswith("warploom-detector-")


def _detector(
    file: str, to: str, out: Path | None, part: str, skips: bool, uint8: str | None, verify: bool, as_json: bool
) -> None:
    if to != "onnx" or part != "whole" or skips:
        raise ArgumentError(f"{file} is a detector, which is exported as a whole, --to onnx: leave out --part and --skips")
    detector = Detector.load(file)
    path = formats.detector(detector, _place(file, Path(file).stem, to, out, "fp32"), uint8=uint8)
    differences = formats.compare_detector(detector, path, uint8=uint8) if verify else []
    (image,) = detector.model.inputs
    ends: dict[str, Any] = {"inputs": {str(image.name): image.shape}, "outputs": {name: () for name in OUTPUTS}}
    ends["outputs"] |= {name: image.shape[1:] for name in ("map", "heat_map", "mask")}
    _report([path], "detector", ends, differences, as_json)


def _opened(model: str) -> tuple[Model, str | None]:
    """The network, and the kind of its data where its run says it."""
    if model not in models.BY_NAME or is_saved(model):
        trained = open_trained(model)
        for note in trained.notes:
            print(f"warploom: {note}", file=sys.stderr)
        return trained.model, trained.kind
    network = models.get(model)
    warn_loudly(f"{model} is a network that was not trained: its weights are random")
    return network, None


def _half(network: Model, part: str) -> Model:
    """The network, or its encoder; a decoder is no network of its own."""
    if part not in ("whole", "encoder"):
        raise ArgumentError(f"--part {part} is for --to onnx and torch: a warploom file holds a whole network or an encoder")
    return network if part == "whole" else network.encoder


def _place(model: str, name: str, to: str, out: Path | None, dtype: str) -> Path:
    """Where to write; never over what is read."""
    source = expanded(model) if is_saved(model) or expanded(model).is_dir() else None
    if out is None:
        folder = Path() if source is None else source if source.is_dir() else source.parent
        ending = {"onnx": ".onnx", "torch": "_torch.safetensors", "safetensors": f"-{dtype}.safetensors"}[to]
        out = folder / f"{module_name(name)}{ending}"
    target = expanded(out)
    if (
        source is not None
        and target.exists()
        and any(s.exists() and target.samefile(s) for s in (source, source / "model.safetensors"))
    ):
        raise ArgumentError(f"{out} is the file that is exported: choose another name with --out")
    return target


@app.command("import", rich_help_panel=USE)
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A state dict (.safetensors, .pt, .pth) or an ONNX file that warploom wrote.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", autocompletion=complete_models,
            help="The network whose parameters these are: a model's name, a .safetensors file of warploom or a run's folder.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An argument of the model, such as skips=true; again for more."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The .safetensors file to write; default: NAME-warploom.safetensors."),
    ] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Make a warploom file of a PyTorch state dict or of an exported ONNX file. No code in the file is run."""
    if not file.is_file():
        raise DataError(f"there is no file {file}: expected a PyTorch state dict, a .safetensors or an .onnx file")
    if file.suffix.lower() == ".onnx":
        if model is not None or settings:
            raise ArgumentError("an ONNX file says itself which network it holds: leave out --model and --set")
        network = formats.read_onnx(file)
    else:
        if model is None:
            raise ArgumentError("a state dict has no network in it: say with --model whose parameters these are")
        if is_saved(model) and settings:
            raise ArgumentError("--set is for a model's name; a saved network is what it is")
        network = load_network(model) if is_saved(model) else models.get(model, **parse_arguments(settings or []))
        network.load_state_dict(formats.read_state_dict(file))
    target = expanded(out or file.with_name(f"{file.stem}-warploom.safetensors"))
    network.save(target)
    if as_json:
        print(json.dumps({"file": str(target), "network": network.name, "parameters": network.count_parameters()}))
        return
    print(f"written to {target}: {network.name}, {network.count_parameters():,} parameters")
