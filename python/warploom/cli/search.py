"""`warploom search` and `warploom cluster`: images that a trained network finds alike, with pictures of them."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from warploom.cli.app import SEED, DeviceOption, JsonOption, VersionOption, app, say, table
from warploom.cli.plain import visible
from warploom.cli.progress import Progress
from warploom.cli.words import USE, whole
from warploom.errors import ArgumentError, DataError
from warploom.ground.atomic import expanded, write_atomically
from warploom.ground.figures import short_name
from warploom.ground.tables import Column
from warploom.inference.images import Images
from warploom.inference.trained import Trained, open_trained
from warploom.neighbours import Clusters, Gallery
from warploom.runs.plots import plot_rows

_SHOWN = 10  # images of a cluster in the picture
_UNDER = 19  # letters under an image

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="The folder of a run, or a .safetensors file; it needs a latent.")
]
InOption = Annotated[
    str, typer.Option("--in", metavar="IMAGES", help="Where the images are: a folder, cifar10, patches, a .npy or .npz file.")
]
DataDirOption = Annotated[str | None, typer.Option("--data-dir", metavar="FOLDER", help="Where CIFAR-10 is.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", callback=whole(), help="Only the first N images of --in.")
]
SkipOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out image files that cannot be read.")]


def _gallery(
    run: str, source: str, data_dir: str | None, limit: int | None, skip_bad: bool, device: str, version: str
) -> Gallery:
    trained = open_trained(run, device=device, version=version)
    trained.require_latent()
    images = trained.images(source, data_dir=data_dir, skip_bad=skip_bad, limit=limit)
    for note in [*trained.notes, *images.notes]:
        print(visible(note), file=sys.stderr)
    with Progress() as progress:
        gallery = Gallery.of(trained, images, lambda share: progress("features", share))
    if gallery.skipped:
        print(f"left out: {visible(', '.join(gallery.skipped))}", file=sys.stderr)
    return gallery


def _pixels(trained: Trained, images: Images, places: Any) -> Any:
    return np.stack([images.read(int(place), size=trained.size) for place in places])


@app.command(rich_help_panel=USE)
def search(
    run: RunArgument,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="An image file, or several images: a folder, a .npy file.")],
    source: InOption,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", callback=whole(), help="How many of the nearest.")] = 8,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Also draw them: a .png file.")] = None,
    data_dir: DataDirOption = None,
    limit: LimitOption = None,
    skip_bad: SkipOption = False,
    as_json: JsonOption = False,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
) -> int:
    """Find the images that are most alike to an image, by a network's features."""
    to = _picture(out)
    gallery = _gallery(run, source, data_dir, limit, skip_bad, device, version)
    asked = gallery.trained.images(image, skip_bad=skip_bad, limit=20)
    if not len(asked):
        raise DataError(f"{image} holds no image to search for")
    queries = _pixels(gallery.trained, asked, range(len(asked)))
    # One of the gallery is nearest to itself, which says nothing.
    one = _one_source(image, source)
    places, likeness = gallery.nearest(gallery.features(queries), count + 1)
    found = [
        [(int(p), float(v)) for p, v in zip(row, values, strict=True) if not _same(gallery.images, int(p), asked, i, one)][:count]
        for i, (row, values) in enumerate(zip(places, likeness, strict=True))
    ]
    rows: list[dict[str, Any]] = [
        {"image": asked.names[i], "nearest": [{"name": gallery.images.names[p], "likeness": round(v, 4)} for p, v in each]}
        for i, each in enumerate(found)
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            cells = [[near["name"], f"{near['likeness']:.3f}"] for near in row["nearest"]]
            table(f"most alike to {visible(row['image'])}", [Column("image", wrap=True), "likeness"], cells, right=1)
    if to is not None:
        shown = min(map(len, found))
        pictures, captions = [], []
        for i, each in enumerate(found):
            near = _pixels(gallery.trained, gallery.images, [place for place, _ in each[:shown]])
            pictures.append(("", np.concatenate([queries[i : i + 1], near])))
            under = [f"{short_name(gallery.images.names[place], _UNDER)}\n{value:.3f}" for place, value in each[:shown]]
            captions.append([f"{short_name(asked.names[i], _UNDER)}\nthe image", *under])
        plot_rows(to, pictures, f"{gallery.trained.title}: an image, and what is most alike (1 is the same)", captions)
        print(f"drawn in {visible(str(to))}", file=sys.stderr)
    return 0


def _one_source(image: str, source: str) -> bool:
    """Whether the image is asked for of what is searched: one name, or one file or folder."""
    paths = expanded(image), expanded(source)
    return image == source or (all(path.exists() for path in paths) and paths[0].samefile(paths[1]))


def _same(images: Images, place: int, asked: Images, query: int, one_source: bool) -> bool:
    """Whether both are one file, or one place of one array."""
    if images.files is None or asked.files is None:
        return one_source and images.names[place] == asked.names[query]
    return images.files[place].resolve() == asked.files[query].resolve()


def _picture(out: Path | None) -> Path | None:
    if out is None:
        return None
    if out.suffix.lower() != ".png":
        raise ArgumentError(f"--out {out} is no .png file: pictures are written as .png")
    return expanded(out)


@app.command(rich_help_panel=USE)
def cluster(
    run: RunArgument,
    source: Annotated[str, typer.Argument(metavar="IMAGES", help="A folder, cifar10, patches, a .npy or .npz file.")],
    clusters: Annotated[
        str, typer.Option("--clusters", "-k", metavar="K", help="How many; 5-12 tries each and takes the best silhouette.")
    ] = "10",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A .csv file of the clusters; a .png picture comes with it."),
    ] = None,
    data_dir: DataDirOption = None,
    limit: LimitOption = None,
    skip_bad: SkipOption = False,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same clusters.", **SEED)] = 0,
    as_json: JsonOption = False,
    version: VersionOption = "auto",
    device: DeviceOption = "auto",
) -> int:
    """Sort images into clusters of what is alike, by a network's features; no labels are needed."""
    low, high = _span(clusters)
    if out is not None and out.suffix.lower() != ".csv":
        raise ArgumentError(f"--out {out} is no .csv file: the clusters are written as .csv, their picture beside it")
    gallery = _gallery(run, source, data_dir, limit, skip_bad, device, version)
    tried: list[tuple[int, Clusters]] = []
    with Progress() as progress:
        for count in range(low, high + 1):
            tried.append((count, gallery.clusters(count, seed=seed)))
            progress("clusters", (count - low + 1) / (high - low + 1))
    best = max((found for _, found in tried), key=lambda found: found.silhouette)
    names, purity = gallery.images.names, best.purity()
    rows: list[dict[str, Any]] = [
        {"cluster": i, "images": len(best.members(k)), "typical": [names[gallery.places[m]] for m in best.members(k)[:3]]}
        for i, k in enumerate(best.by_size(), 1)
    ]
    if as_json:
        about = {"silhouette": best.silhouette, "purity": purity, "tried": [[k, found.silhouette] for k, found in tried]}
        print(json.dumps({**about, "clusters": rows}, indent=2))
    else:
        note = f"silhouette {best.silhouette:.3f}" + (f"; {100 * purity:.1f} % are of their cluster's class" if purity else "")
        cells = [[str(r["cluster"]), str(r["images"]), ", ".join(map(str, r["typical"]))] for r in rows]
        table(
            f"{len(gallery):,} images",
            [Column("cluster", right=True), Column("images", right=True), Column("most typical", wrap=True)],
            cells,
            notes=[note],
        )
    if out is not None:
        _write(expanded(out), best)
    return 0


def _span(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()) or not 2 <= int(first) <= int(last or first):
        raise ArgumentError(
            f"--clusters {text!r} is no number of clusters: expected 2 or more such as 10, or a span such as 5-12"
        )
    return int(first), int(last or first)


def _write(path: Path, best: Clusters) -> None:
    gallery, buffer = best.gallery, io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["image", "cluster", "likeness"])
    numbers = {k: i for i, k in enumerate(best.by_size(), 1)}
    for row, place in enumerate(gallery.places):
        writer.writerow([gallery.images.names[place], numbers[int(best.labels[row])], f"{best.likeness[row]:.4f}"])
    write_atomically(path, buffer.getvalue().encode())
    shown = [best.members(k)[:_SHOWN] for k in best.by_size()[:20]]
    blank = np.full((1, *gallery.trained.shape), 255, np.uint8)
    pictures = []
    for i, members in enumerate(shown, 1):
        images = _pixels(gallery.trained, gallery.images, gallery.places[members])
        images = images if images.dtype == np.uint8 else np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
        pictures.append((str(i), np.concatenate([images, *[blank] * (_SHOWN - len(images))])))
    picture = path.with_suffix(".png")
    plot_rows(picture, pictures, f"{gallery.trained.title}: the most typical of each cluster")
    say(f"written to {visible(str(path))} and {visible(str(picture))}")
