"""The sections of a page that show images: reconstructions, predictions, the latent space, the way between two images."""

import math

import numpy as np

from warploom.ground.array_types import Floats
from warploom.report import latent
from warploom.report.charts import bars, scatter
from warploom.report.evidence import Evidence, Looked
from warploom.report.markup import Content, Markup, el
from warploom.report.numbers import note, section, short_paths
from warploom.report.pixels import coloured, floats, img, picture, scale_bar, sheet, strip

SHOWN = 12  # reconstructions without choice; then as many of the hardest and the easiest together
STEPS = 8  # from one image to the other
_POINTS = 6  # fewer make no picture of a latent space
_LOWEST = 1e-10  # mean squared error: 100 dB


def reconstructions(found: Evidence) -> Markup | None:
    """Input, output and error of images: some without choice, the hardest, the easiest."""
    looked = found.looked
    if looked is None or looked.outputs is None or looked.errors is None:
        return _predictions(found)
    errors = looked.errors
    differences = np.abs(looked.outputs - floats(looked.images)).mean(1)
    plain = list(range(0, len(errors), max(1, len(errors) // SHOWN)))[:SHOWN]
    order = [int(i) for i in np.argsort(np.nan_to_num(errors, nan=np.inf), kind="stable")]
    half = SHOWN // 2 if len(order) > 2 * SHOWN else 0
    hardest, easiest = order[::-1][:half], order[:half]
    finite = differences[[*plain, *hardest, *easiest]]
    finite = finite[np.isfinite(finite)]
    high = float(np.quantile(finite, 0.995)) if finite.size and finite.max() > 0 else 1.0

    def grid(places: list[int]) -> Markup:
        return el("div", [_triplet(looked, i, differences[i], float(errors[i]), high) for i in places], class_="triplets")

    parts: list[Content] = [
        el(
            "p", f"{len(plain)} images of {looked.title}, evenly spread. From top to bottom: ", el("b", "input"), ", ",
            el("b", "reconstruction"), ", ", el("b", "error"), "; below them the PSNR.",
        ),
        el("p", "Error, the mean difference of the channels: ", scale_bar("0", f"{high:.2g} or more"), class_="scaled"),
        grid(plain),
    ]  # fmt: skip
    if half:
        of = f" of {len(errors)} images"
        ends = [
            el("div", el("h3", title, el("small", of)), grid(places))
            for title, places in (("The hardest", hardest), ("The easiest", easiest))
        ]
        parts.append(el("div", ends, class_="halves"))
    if len(errors) >= 40 and np.isfinite(errors).all():
        decibels = -10.0 * np.log10(np.maximum(errors, _LOWEST))
        counts, edges = np.histogram(decibels, bins=min(30, len(errors) // 10 + 4))
        chart = bars([int(c) for c in counts], [float(e) for e in edges], "PSNR in dB", f"{len(errors)} images")
        parts.append(el("div", chart, class_="charts"))
    return section("reconstructions", "Reconstructions", parts, [note(short_paths(n)) for n in looked.notes])


def _triplet(looked: Looked, i: int, difference: Floats, error: float, high: float) -> Markup:
    assert looked.outputs is not None
    said = looked.said(i)
    score = f"{round(-10 * math.log10(max(error, _LOWEST)), 1) + 0.0:.1f} dB" if math.isfinite(error) else "not finite"
    return el(
        "figure", picture(looked.images[i], f"input {said}"),
        picture(np.nan_to_num(looked.outputs[i]), f"reconstruction of {said}"),
        img(coloured(difference, 0.0, high), f"error of {said}"), el("figcaption", score, el("small", looked.label(i))),
        data_tip=f"{said}: {score}",
    )  # fmt: skip


def _predictions(found: Evidence) -> Markup | None:
    if not found.predictions:
        missing = found.missing.get("images")
        return section("reconstructions", "Images", note(short_paths(missing))) if missing else None
    rows = [
        el("tr", el("th", label), [el("td", picture(image, f"{label} {i + 1}")) for i, image in enumerate(images)])
        for label, images in found.predictions
    ]
    grid = el("div", el("table", el("tbody", rows), class_="images"), class_="scroll", tabindex=0)
    return section("reconstructions", "Predictions", el("p", "The first test samples, a column each."), grid)


def latent_space(found: Evidence, *, quick: bool = False) -> Markup | None:
    """Every image as a point, by principal components and (not if quick) by t-SNE, with its thumbnail where the pointer is."""
    looked = found.looked
    if looked is None or looked.latents is None:
        if found.model.latent is None and found.trained is not None:
            return section(
                "latent", "Latent space", note("This network marks no latent (warploom.layers.Latent): none is drawn.")
            )
        return None
    vectors = latent.flat(looked.latents)
    if len(vectors) < _POINTS:
        return section("latent", "Latent space", note(f"A picture of the latent space needs at least {_POINTS} images."))
    groups = None if looked.labels is None else [int(v) for v in looked.labels]
    texts = [looked.said(i) for i in range(len(vectors))]
    placed, shares = latent.pca(vectors)
    about = f"the first two principal components hold {100 * shares[0]:.1f} and {100 * shares[1]:.1f} % of the variance"
    drawn = [
        ("PCA", about, scatter(placed.tolist(), groups, texts, f"{len(texts)} images by principal components of the latent"))
    ]
    other = "The page that is written when the live view ends has t-SNE too." if quick else latent.tsne(vectors)
    if not isinstance(other, str):
        drawing = scatter(other.tolist(), groups, texts, f"{len(texts)} images by t-SNE of the latent")
        drawn.append(("t-SNE", "neighbours stay neighbours; distances between groups say little", drawing))
    lead = f"{len(texts)} images of {looked.title}, each a point: its latent, {vectors.shape[1]:,} numbers, in two dimensions. "
    return section(
        "latent", "Latent space", el("p", lead, "Point at one to see it."), _tabs([name for name, _, _ in drawn]),
        el(
            "div", [
                el("div", drawing, el("p", f"{name}: {said}.", class_="note"), class_="panel", data_panel=i, hidden=i > 0)
                for i, (name, said, drawing) in enumerate(drawn)
            ], _groups(looked, groups), class_="beside",
        ),
        note(other) if isinstance(other, str) else None,
    )  # fmt: skip


def _tabs(names: list[str]) -> Markup | None:
    if len(names) < 2:
        return None
    buttons = [el("button", name, type="button", data_tab=i, aria_pressed=str(not i).lower()) for i, name in enumerate(names)]
    return el("div", buttons, class_="tabs")


def _groups(looked: Looked, groups: list[int] | None) -> Markup | None:
    """A button for each class, which fades the others."""
    if groups is None:
        return None
    named = {group: looked.label(groups.index(group)) for group in sorted(set(groups))}
    buttons = [
        el("button", el("i", class_=f"key c{group % 10}"), name, type="button", data_g=group, aria_pressed="false")
        for group, name in named.items()
    ]
    return el("div", buttons, class_="groups")


def thumbnails(found: Evidence) -> str:
    """The style of the thumbnails: one sheet for the whole page."""
    if found.looked is None or found.looked.latents is None:
        return ""
    uri, columns, side = sheet(found.looked.images)
    rows = math.ceil(len(found.looked.images) / columns)
    return f":root{{--sheet:url({uri});--columns:{columns};--rows:{rows};--side:{side}}}"


def interpolation(found: Evidence) -> Markup | None:
    """Decoded from the straight line between two latents; below, the pixels blended, which a latent space should beat."""
    looked = found.looked
    if looked is None or looked.latents is None or looked.outputs is None or found.trained is None:
        return None
    decoder = found.decoder
    if decoder is None:
        why = "Skips lead past this network's latent, so a latent alone cannot be decoded."
        return section("interpolation", "Between two images", note(why))
    if not np.isfinite(looked.latents).all():
        return section(
            "interpolation", "Between two images", note("Latents of this network are not finite: nothing lies between them.")
        )
    pairs = latent.pairs_to_join(len(looked.images), looked.labels)
    made = found.trained.pixels(latent.between(decoder, looked.latents, pairs, STEPS)) if pairs else ()
    shares = np.linspace(0.0, 1.0, STEPS, dtype=np.float32)[:, None, None, None]
    pixels = floats(looked.images)
    shown = []
    for (a, b), row in zip(pairs, made, strict=True):
        ends = " to ".join(looked.label(i) or looked.names[i] for i in (a, b))
        blended = pixels[a] * (1.0 - shares) + pixels[b] * shares
        shown += [
            el("figure", el("figcaption", ends), strip(row, f"decoded, {ends}")),
            el("figure", el("figcaption", el("small", "for comparison, the pixels blended")), strip(blended, f"blended, {ends}")),
        ]  # fmt: skip
    lead = "Decoded from the straight line between the latents of two images."
    return section("interpolation", "Between two images", el("p", lead), el("div", shown, class_="strips")) if shown else None
