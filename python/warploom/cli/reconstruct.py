"""`warploom reconstruct`: what a trained network makes of images, as a picture or as files of the same names."""

import contextlib
import io
import json
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import typer

from warploom.cli.app import SEED, BatchOption, DeviceOption, JsonOption, PrecisionOption, VersionOption, app, say
from warploom.cli.plain import visible
from warploom.cli.progress import Progress
from warploom.cli.using import (
    DataArgument,
    DataDirOption,
    LimitOption,
    RunArgument,
    SkipBadOption,
    counted,
    fit_option,
    images_of,
    opened,
    part_option,
    say_skipped,
)
from warploom.cli.words import USE, whole
from warploom.errors import ArgumentError
from warploom.ground.array_types import Array, Floats
from warploom.ground.atomic import expanded, write_atomically
from warploom.ground.figures import short_name
from warploom.inference.images import Images
from warploom.inference.judging import judged, reconstructions
from warploom.inference.trained import Trained
from warploom.metrics import unit
from warploom.models.sampling import sample
from warploom.runs.plots import plot_rows, to_pixels

_UNDER = 19  # letters under an image
_RANGE = 0.25  # of the error's colours: the same on every image


@app.command(rich_help_panel=USE)
def reconstruct(
    run: RunArgument,
    data: DataArgument = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="PLACE",
            help="A .png: a picture of inputs, outputs and errors. A folder: every output as a .png under its image's name.",
        ),
    ] = Path("reconstructions.png"),
    count: Annotated[
        int, typer.Option("--count", metavar="N", callback=whole(1, 64), help="How many images the picture shows.")
    ] = 10,
    new: Annotated[
        int | None,
        typer.Option(
            "--sample", metavar="N", callback=whole(1, 100_000),
            help="N new pictures instead, which a variational autoencoder makes of random latents.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of --sample: same seed, same pictures.", **SEED)] = 0,
    triples: Annotated[
        bool, typer.Option("--triples", help="In a folder: input, output and error beside each other in one file.")
    ] = False,
    part: str = part_option("auto"),
    fit: str = fit_option("own"),
    data_dir: DataDirOption = None,
    limit: LimitOption = None,
    skip_bad: SkipBadOption = False,
    batch_size: BatchOption = None,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Pictures of what a trained network makes of images, of any size."""
    trained = opened(run, version, device, precision, batch_size)
    trained.require_reconstruction()
    place = expanded(out)
    picture = place.suffix.lower() == ".png" and not place.is_dir()
    if not picture and place.exists() and not place.is_dir():
        raise ArgumentError(f"{out} is a file; expected a folder, or a name that ends with .png")
    if picture and triples:
        raise ArgumentError("--triples is for a folder: leave it out, the picture shows inputs, outputs and errors")
    if new is not None:
        if data is not None or triples:
            raise ArgumentError("--sample makes pictures of random latents: leave out the images and --triples")
        names = _new(trained, new, seed, place, picture)
        if as_json:
            print(json.dumps({"out": str(out), "images": names}))
            return
        say(f"{len(names):,} new pictures: written to {visible(str(out))}")
        return
    skipped = list[str]()
    images = images_of(trained, data, quiet=as_json, part=part, data_dir=data_dir, limit=limit, skip_bad=skip_bad)
    if picture:
        images = images.limited(count)
        names = _picture(trained, images, place, fit, skipped)
    else:
        names = _files(trained, images, place, fit, triples, skipped)
    if as_json:
        print(json.dumps({"out": str(out), "images": names, "skipped": skipped}))
        return
    say(f"{counted(len(names), 'image')}: written to {visible(str(out))}")
    say_skipped(skipped)


def _picture(trained: Trained, images: Images, path: Path, fit: str, skipped: list[str]) -> list[str]:
    """Rows of inputs, outputs and errors."""
    rows: dict[str, list[Array]] = {"input": [], "output": [], "error": []}
    names, mse, under = list[str](), list[float](), list[str]()
    for batch, outputs in reconstructions(trained, images, fit=fit, skipped=skipped):
        names += batch.names
        found = judged(batch.images, outputs, batch.names)
        mse += [row.mse for row in found]
        under += [f"{short_name(row.name, _UNDER)}\n{row.psnr:.1f} dB" for row in found]
        for image, output in zip(batch.images, outputs, strict=True):
            rows["input"].append(unit(image))
            rows["output"].append(output)
            rows["error"].append(error_colours(image, output))
    about = f"{trained.title}: mean squared error {np.mean(mse):.5f}; errors are white from {_RANGE} on"
    plot_rows(path, [(label, made) for label, made in rows.items()], about, [[], [], under])  # type: ignore[misc]
    return names


def _new(trained: Trained, count: int, seed: int, place: Path, picture: bool) -> list[str]:
    """Pictures that the decoder makes of random latents: rows of ten in one picture, or each in a file."""
    made = np.clip(sample(trained.model, count, seed), 0.0, 1.0)
    if picture:
        rows = [("", made[start : start + 10]) for start in range(0, count, 10)]
        plot_rows(place, rows, f"{trained.title}: new pictures")
        return [f"sample-{i}" for i in range(1, count + 1)]
    names = [f"sample-{i}.png" for i in range(1, count + 1)]
    for name, image in zip(names, made, strict=True):
        write_atomically(place / name, _png([to_pixels(image)]))
    return names


def _files(trained: Trained, images: Images, folder: Path, fit: str, triples: bool, skipped: list[str]) -> list[str]:
    names = list[str]()
    with Progress() as progress:
        count = progress.counting("reconstructing", len(images))
        for batch, outputs in reconstructions(trained, images, fit=fit, skipped=skipped):
            for name, image, output in zip(batch.names, batch.images, outputs, strict=True):
                parts = [to_pixels(output)]
                if triples:
                    parts = [to_pixels(image), *parts, to_pixels(error_colours(image, output))]
                write_atomically(folder / file_name(name), _png(parts))
                names.append(name)
            count(len(names))
    return names


def file_name(name: str) -> str:
    """The path of an image's output below a folder: never outside of it, and one for each image.

    Its ending goes where it is .png, and stays within the name where it is another: a.jpg and a.png are two images."""
    path = PurePosixPath(name)
    inner = PurePosixPath(*[p for p in path.parts if p not in ("..", "/")])
    return str(inner.with_suffix(".png") if inner.suffix.lower() in (".png", "") else inner.with_name(f"{inner.name}.png"))


def error_colours(image: Array, output: Floats) -> Floats:
    """[3, H, W]: the mean absolute error of a pixel's channels, black over red and yellow to white: the same on every image."""
    error = np.clip(np.abs(unit(image) - output).mean(axis=0) / _RANGE, 0.0, 1.0)
    return np.stack([np.clip(3.0 * error - i, 0.0, 1.0) for i in range(3)]).astype(np.float32)


def _png(parts: list[Array]) -> bytes:
    from PIL import Image

    same = parts if len({p.ndim for p in parts}) == 1 else [p if p.ndim == 3 else np.stack([p] * 3, axis=2) for p in parts]
    buffer = io.BytesIO()
    with contextlib.closing(Image.fromarray(np.concatenate(same, axis=1))) as image:
        image.save(buffer, format="png")
    return buffer.getvalue()
