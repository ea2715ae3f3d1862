"""The sections of a page that explain the network: filters, feature maps, graph, layers, memory, kernels."""

import contextlib
import math
import warnings
from collections import defaultdict
from typing import Any

import numpy as np

from warploom import losses
from warploom.engine import Engine
from warploom.errors import DataError, DeviceError, FallbackWarning, UnsupportedError
from warploom.ground import hardware
from warploom.ground.array_types import Array, Floats
from warploom.ground.tables import bytes_text, size
from warploom.inspection.summary import Summary
from warploom.layers import Conv2d
from warploom.model import planned
from warploom.network.graph import Tensor
from warploom.report.charts import number, parts_bar
from warploom.report.evidence import Evidence
from warploom.report.markup import Content, Markup, el, table
from warploom.report.numbers import section
from warploom.report.pixels import coloured, mosaic, picture, scale_bar, shrunk, vector

FILTERS = 64  # of the first layer, those with the largest weights
MAPS = 16  # of a layer, those that vary most
_EACH = (
    "weights",
    "weight_gradients",
    "optimizer_state",
    "activations",
    "saved",
    "gradients",
    "workspace",
    "data",
    "fragmentation",
)


def filters(found: Evidence) -> Markup | None:
    """The first convolution's weights as small pictures, and what comes out of layers for one image."""
    if found.trained is None:
        return None
    parts = [el("div", part) for part in (_filters(found), _maps(found)) if part]
    return section("filters", "Filters and feature maps", el("div", parts, class_="halves")) if parts else None


def _filters(found: Evidence) -> list[Content]:
    first = next((layer for layer in found.model.layers if isinstance(layer, Conv2d)), None)
    if first is None:
        return []
    weights: Floats = first.parameters["weight"].value()
    strength = np.abs(weights).max((1, 2, 3))
    order = np.argsort(-np.nan_to_num(strength), kind="stable")[:FILTERS]
    largest = float(np.nan_to_num(strength).max()) or 1.0
    if weights.shape[1] == 3:
        scaled = np.nan_to_num(weights[order]) / np.maximum(np.nan_to_num(strength)[order, None, None, None], 1e-12)
        tiles = list(np.rint(scaled * 127.5 + 127.5).astype(np.uint8).transpose(0, 2, 3, 1))
        how: Content = "each on its own scale: grey is no weight, a colour what the filter looks for"
    else:
        tiles = [coloured(weights[i, 0], -largest, largest, "RdBu_r") for i in order]
        how = el("span", "their first input channel: ", scale_bar(number(-largest), number(largest), "RdBu_r"))
    columns = min(16, max(min(8, len(tiles)), math.ceil(math.sqrt(2 * len(tiles)))))
    alt = f"{len(tiles)} filters of {first.name}"
    of = f"{len(tiles)} of {len(weights)}" if len(tiles) < len(weights) else f"all {len(tiles)}"
    shape = size(weights.shape[1:])
    return [
        el("h3", "First layer", el("small", f" {first.name}, {of} filters of {shape}, ", how)),
        mosaic(tiles, columns, alt, widest=64),
    ]


def _maps(found: Evidence) -> list[Content]:
    """Of one image: the first stage's maps and the latent's, each on its own scale."""
    looked = found.looked
    if looked is None or found.trained is None or len(found.model.inputs) != 1:
        return []
    chosen: dict[str, Tensor] = {}
    for call, name in zip(found.model.calls, found.model.node_names, strict=True):
        if isinstance(call.layer, Conv2d) and not chosen:
            follower = next((c for c in found.model.calls if c.inputs == call.outputs and c.layer.op == "activation"), None)
            chosen[name if follower is None else f"{name} and {follower.layer.name}"] = (follower or call).outputs[0]
    if found.model.latent is not None and len(found.model.latent.shape) == 3:
        chosen["the latent"] = found.model.latent
    chosen = {name: tensor for name, tensor in chosen.items() if max(tensor.shape[1:]) > 1}
    if not chosen:
        return []
    values = found.model.engine.predict([found.trained.prepare(looked.images[:1])], list(chosen.values()))
    parts: list[Content] = [el("h3", "What they make of one image"), picture(looked.images[0], looked.said(0), class_="subject")]
    for (name, tensor), value in zip(chosen.items(), values, strict=True):
        maps: Array = value[0]
        order = np.argsort(-np.nan_to_num(maps.std((1, 2))), kind="stable")[:MAPS]
        tiles = [shrunk(coloured(maps[i], float(maps[i].min()), float(maps[i].max()), "viridis")) for i in order]
        said = f"{name}: {len(tiles)} of {tensor.shape[0]} maps of {size(tensor.shape[1:])}"
        parts.append(el("figure", el("figcaption", said), mosaic(tiles, min(8, len(tiles)), said)))
    return parts


def network(found: Evidence) -> Markup:
    """The graph as a picture, and the table of layers."""
    drawing = found.model.plot().svg
    summary = Summary(found.model)
    latent = [el("b", " latent", class_="tag")]
    rows: list[list[Content]] = [[str(name), "Input", size(shape), "", "", "1"] for name, shape in summary.inputs]
    for row in summary.rows:
        field = row.receptive_field
        seen = "all" if field is None else str(field[0]) if field[0] == field[1] else f"{field[0]}-{field[1]}"
        count = "shared" if row.shared else f"{row.parameters:,}" if row.parameters else ""
        name: Content = [row.name, latent if row.latent and row.kind != "Latent" else None]
        rows.append([name, row.kind, size(row.output_shape), count, f"{row.macs:,}" if row.macs else "", seen])
    layers = table(["layer", "type", "output", "parameters", "multiply-adds", "receptive field"], rows, right=2)
    many = len(rows) > 24
    body = el("details", el("summary", f"All {len(summary.rows)} layers"), layers) if many else layers
    totals = f"{summary.total_parameters:,} parameters, {summary.total_macs:,} multiply-adds for one image."
    alt = f"The graph of {found.model.name}: " + ", ".join(found.model.node_names[:40])
    return section(
        "network", "Network", el("div", vector(drawing, alt), class_="scroll paper", tabindex=0), el("p", totals), body
    )


def plan(found: Evidence) -> Markup:
    """Memory and kernels of a training step as it was asked for, or, where its device is not here, on what is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        engine, batch = _planned(found)
    memory = engine.memory(batch)
    where = hardware.place(engine.version, engine.device)
    parts = [(key.replace("_", " "), float(memory[key]), bytes_text(memory[key])) for key in _EACH if memory.get(key)]
    lead = f"A training step of {batch} images, {where}: {bytes_text(memory['total'])}"
    saved = memory["total_without_reuse"]
    reuse = f", instead of {bytes_text(saved)} without sharing memory between steps." if saved > memory["total"] else "."
    made = (
        el("p", f"Each batch is made by augment_images: {found.config.changes}.")
        if found.config and found.config.changes
        else None
    )
    steps = engine.explain(batch)
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for step in steps:
        grouped[str(step["entry"]), str(step["algorithm"])].append(step)
    fused = sum(1 for step in steps for key, plain in _FUSIONS.items() if step.get("fusion", {}).get(key, plain) != plain)
    rows: list[list[Content]] = [
        [entry, algorithm, _layers(group), str(len(group)), bytes_text(sum(s["bytes"] for s in group))]
        for (entry, algorithm), group in sorted(grouped.items(), key=lambda kv: -sum(s["bytes"] for s in kv[1]))
    ]
    refusals = engine.refusals(batch)
    refused = el("details", el("summary", f"{len(refusals)} fusions were refused"), el("ul", [el("li", r) for r in refusals]))
    return section(
        "plan", "Memory and kernels", el("p", lead, reuse), made, parts_bar(parts),
        el("h3", "Kernel calls", el("small", f" {len(steps)} in a step, {fused} activations, pools and upsamplings in them")),
        table(["entry", "algorithm", "layers", "calls", "touches"], rows, right=3), refused if refusals else None,
    )  # fmt: skip


_FUSIONS: dict[str, Any] = {"activation": "none", "pool": 1, "upsample": 1}


def _layers(group: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(str(step["node"]) for step in group if step["node"]))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _planned(found: Evidence) -> tuple[Engine, int]:
    """The step of the run's own recipe, where its device is here and its recipe is known; nothing is allocated."""
    config = found.config
    if config is not None and config.batch_size is not None:
        for version, device, precision in ((config.version, config.device, config.precision), ("auto", "auto", "fp32")):
            with contextlib.suppress(DeviceError, UnsupportedError, DataError):  # another machine's, a file that is gone
                choice = hardware.resolve(version, device, precision=precision)
                objective, _ = losses.resolve(config.make_losses(), found.model.output_names)
                engine = Engine(
                    found.model.lowered(), choice, losses=objective, optimizer=config.make_optimizer(),
                    batch_size=config.batch_size, precision=precision, plan_only=True,
                )  # fmt: skip
                return engine, config.batch_size
    batch = found.model.batch_size
    return planned(found.model, hardware.resolve(), batch), batch
