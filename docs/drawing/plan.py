"""The plan of a training step as a picture: every buffer over the steps at which its contents matter, at its place in the arena.

The data are the engine's own (plan.json), kept beside this file so that drawing needs no build; `--plan` plans anew.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from drawing.svg import BLUE, EDGE, GREEN, GREY, ORANGE, SOFT, STRONG_RED, Drawing, width_of

DATA = Path(__file__).resolve().parent / "plan.json"
BATCH = 64
WANTED = (("v4", "fp32"), ("v5", "bf16"))
COLOURS = {"activations": BLUE, "gradients": ORANGE, "saved": GREEN, "workspace": GREY}
MIB = 1 << 20
Plan = dict[str, Any]


def planned() -> list[Plan]:
    """The plans as the built package makes them; nothing is allocated or run."""
    import warploom as wl
    from warploom.ground import hardware
    from warploom.model import planned as plan_of

    found = []
    for version, precision in WANTED:
        engine = plan_of(wl.models.cifar10_autoencoder(), hardware.resolve(version, "emulated"), BATCH, precision)
        steps = [{"node": s["node"], "entry": s["entry"], "backward": s["backward"]} for s in engine.explain(BATCH)]
        buffers = engine.session.buffers(BATCH, True)
        found.append({"version": version, "precision": precision, "steps": steps, "buffers": buffers})
    return found


def text_of(plans: list[Plan]) -> str:
    """JSON with a line for each step and buffer, so that a change reads as one."""

    def rows(items: list[Any]) -> str:
        return "[\n" + ",\n".join(f"    {json.dumps(i)}" for i in items) + "\n   ]"

    return (
        "[\n"
        + ",\n".join(
            f'  {{"version": "{p["version"]}", "precision": "{p["precision"]}",\n   "steps": {rows(p["steps"])},\n'
            f'   "buffers": {rows(p["buffers"])}}}'
            for p in plans
        )
        + "\n]\n"
    )


def keep() -> None:
    DATA.write_text(text_of(planned()))


def label_of(buffer: Plan) -> str:
    """What a reader sees: the layer and the kind of buffer."""
    name = buffer["name"]
    if name.endswith("workspace"):
        return f"{name.split('.')[0]} workspace"
    return str(name.removesuffix(".grad") + (" gradient" if name.endswith(".grad") else ""))


def draw(plan: Plan, per_mib: float) -> Drawing:
    steps, buffers = plan["steps"], plan["buffers"]
    arena = max(b["offset"] + b["bytes"] for b in buffers)
    apart = sum(b["bytes"] for b in buffers)
    left, top, wide = 62, 92, 812
    tall, step = arena / MIB * per_mib, wide / len(steps)
    name = f"{plan['version']}, {'float32' if plan['precision'] == 'fp32' else plan['precision']}"
    d = Drawing(
        f"the plan of a training step: {name}",
        f"{len(steps)} steps and {len(buffers)} buffers of the CIFAR-10 autoencoder at batch {BATCH}; {arena / MIB:.0f} MiB.",
        900,
        round(top + tall + 122),
    )
    d.text(20, 30, f"CIFAR-10 autoencoder, batch {BATCH}, {name}: {len(steps)} steps, {len(buffers)} buffers", 16, bold=True)
    for i, (category, colour) in enumerate(COLOURS.items()):
        d.rect(left + 130 * i, 46, 14, 14, colour)
        d.text(left + 20 + 130 * i, 58, category, 12)
    tick = 20 if arena > 100 * MIB else 10
    for mib in range(0, int(arena / MIB) + 1, tick):
        y = top + tall - mib * per_mib
        d.path([(left - 4, y), (left + wide, y)], EDGE, 0.8)
        d.text(left - 8, y + 4, str(mib), 11, "end", fill=SOFT)
    d.text(left - 8, top - 8, "MiB", 11, "end", fill=SOFT)
    d.rect(left, top, wide, tall, "none", EDGE)
    for b in sorted(buffers, key=lambda b: -b["bytes"]):
        x, w = left + step * b["first_step"], step * (min(b["last_step"], len(steps) - 1) - b["first_step"] + 1)
        h = b["bytes"] / MIB * per_mib
        y = top + tall - b["offset"] / MIB * per_mib - h
        if h < 0.4:
            continue
        d.rect(x, y, w, h, COLOURS[b["category"]], SOFT, 0.7)
        size = 11
        texts = [f"{label_of(b)}: {b['bytes'] / MIB:.1f} MiB", label_of(b)]
        fits = [t for t in texts if width_of(t, size) + 6 < w] if h >= 14 else []
        if fits:
            d.text(x + 4, y + min(h / 2 + 4, h - 3.5), fits[0], size)
        elif h >= width_of(label_of(b), size) + 6 and w >= 12.5:
            d.upright(x + w / 2 + 4, y + 3, label_of(b), size)
    losses = [i for i, s in enumerate(steps) if s["entry"].endswith("_loss")]
    x = left + step * (losses[-1] + 1)
    d.path([(x, top - 14), (x, top + tall + 4)], STRONG_RED, 1.6)
    d.text(x - 6, top - 8, "forward and loss", 12, "end", fill=STRONG_RED)
    d.text(x + 6, top - 8, "backward", 12, fill=STRONG_RED)
    at = 0
    for (node, backward), run in itertools.groupby(steps, key=lambda s: (s["node"], s["backward"])):
        count = len(list(run))
        middle = left + step * (at + count / 2)
        d.path([(left + step * at + 1.5, top + tall + 6), (left + step * (at + count) - 1.5, top + tall + 6)], SOFT, 3)
        d.upright(middle + 4, top + tall + 13, node or ("sums" if backward else "loss"), 11)
        at += count
    y = top + tall + 86
    d.text(
        left,
        y,
        "Across: the steps in their order, by layer. Up: the place in the arena. A buffer is as wide as its contents matter.",
        12,
    )
    d.text(
        left,
        y + 19,
        f"Side by side the buffers would take {apart / MIB:,.0f} MiB; placed by lifetime they take {arena / MIB:,.0f} MiB.",
        12,
    )
    return d


def drawings() -> dict[str, Drawing]:
    plans = json.loads(DATA.read_text())
    scale = {"v4": 2.5, "v5": 6.2}
    return {f"plan_{p['version']}": draw(p, scale[p["version"]]) for p in plans}
