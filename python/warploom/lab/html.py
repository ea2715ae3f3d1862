"""A profile as one HTML page that needs nothing else: tables, a roofline, the source with its traffic, requests drawn."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

from warploom.ground.tables import bytes_text
from warploom.kernel_tools.counters import Line
from warploom.kernel_tools.kernels import MULTIPROCESSORS
from warploom.lab.gpus import Gpu
from warploom.lab.profile import Counted, ProgramProfile

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #f3f5f7; --line: #d5dae0; --dim: #5b6570;
  --global: #2f6fb5; --shared: #b5642f; --good: #2e8540; --bad: #c0392b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --paper: #14171a; --soft: #1e2328; --line: #39414a; --dim: #9aa5b1;
  --global: #6ea8e6; --shared: #e69a6e; --good: #6cc27f; --bad: #f08379; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 76rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } p.note { color: var(--dim); max-width: 60rem; }
table { border-collapse: collapse; } th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; } th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; } .good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.bar { display: inline-block; height: .7em; background: var(--global); vertical-align: middle; }
.source { font: 13px/1.45 ui-monospace, monospace; border: 1px solid var(--line); overflow-x: auto; }
.row { display: grid; grid-template-columns: 4.5rem 4.5rem 3.2rem 1fr; white-space: pre; }
.row > .n { color: var(--dim); text-align: right; padding-right: .6rem; } .row.hot { background: var(--soft); }
.strip { display: flex; align-items: center; padding: 0 .2rem; } .strip > i { display: block; height: .75em; }
details { border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); background: var(--soft); }
details > div { padding: .4rem 1rem 1rem; font-family: system-ui, sans-serif; } summary { cursor: pointer; list-style: none; }
summary:hover { outline: 1px solid var(--global); } svg { max-width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px
  system-ui, sans-serif; } svg .dim { fill: var(--dim); } .axis { stroke: var(--dim); }
.mark { display: inline-block; width: .8em; height: .8em; vertical-align: middle; }
"""

_KERNELS = (
    "Sectors are the 32-byte pieces of device memory that a warp's request touches, wavefronts the turns that shared memory "
    "needs for one; ideal is the fewest that hold the same bytes. Counts, not times."
)
_BOUNDS = (
    "Seconds that each part of a {gpu} needs at least for what was counted, at its maker's peaks. Device memory: as if no cache "
    "held anything, so a kernel whose requests hit in L1 or L2 can be faster. Launches, latency and waiting come on top."
)
_OCCUPANCY = (
    "Threads resident on a multiprocessor over the most it holds, for this launch shape. Where registers are not known (nvcc "
    "knows them), as if they set no limit."
)
_SOURCE = (
    'Strips: <span class="mark" style="background:var(--global)"></span> sectors of device memory, <span class="mark" '
    'style="background:var(--shared)"></span> wavefronts of shared memory, each of the line that has most. A grey line opens: '
    "what its accesses cost, and one request drawn."
)


def _e(text: object) -> str:
    return html.escape(str(text))


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(v) for v in shape).removesuffix(" x 1").removesuffix(" x 1")


def _si(value: float, unit: str) -> str:
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}{unit}"
    return f"{value:.3g} {unit}"


def seconds_text(value: float) -> str:
    """12.3 us"""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f"<th>{h}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _graded(value: float, text: str, fine: float) -> str:
    return f'<span class="{"good" if value <= fine else "bad"}">{text}</span>'


def _kernels(found: ProgramProfile, gpu: Gpu) -> str:
    rows = []
    for c in found.counted:
        k = c.kernel
        bounds = c.bounds(gpu)
        largest = max(bounds, key=lambda name: bounds[name])
        shared = k.total("shared").requests
        launches = f" ({k.launches} launches)" if k.launches > 1 else ""
        rows.append([
            f"<b>{_e(k.name)}</b>{launches}", _shape(k.grid), _shape(k.block), bytes_text(k.global_bytes),
            _graded(k.coalescing, f"{k.coalescing:.2f}", 1.1),
            _graded(k.conflicts, f"{k.conflicts:.2f}", 1.01) if shared else "",
            f"{k.active_lanes:.0%}", _graded(k.divergence, f"{k.divergence:.1%}", 0.1), _si(c.flops, "FLOP"),
            f"{c.intensity:.2f}", f"{seconds_text(bounds[largest])}<br><small>{largest}</small>",
        ])  # fmt: skip
    head = [
        "kernel", "grid", "block", "device memory<br>asked for", "sectors<br>x ideal", "wavefronts<br>x ideal", "active<br>lanes",
        "divergent<br>branches", "arithmetic", "FLOP/byte", f"at least,<br>on {_e(gpu.name)}",
    ]  # fmt: skip
    return _table(head, rows)


def _occupancy(found: ProgramProfile) -> str:
    rows = []
    for c in found.counted:
        cells = []
        for arch in MULTIPROCESSORS:
            share = c.occupancy(arch)
            cells.append(f'<span class="bar" style="width:{2.2 * share:.2f}em"></span> {share:.0%}')
        registers = "not known" if c.registers is None else str(c.registers)
        rows.append([f"<b>{_e(c.kernel.name)}</b>", str(c.threads), bytes_text(c.shared_bytes), registers, *cells])
    return _table(["kernel", "threads", "shared", "registers", *(f"sm_{arch}" for arch in MULTIPROCESSORS)], rows)


def _roofline(found: ProgramProfile, gpu: Gpu) -> str:
    width, height, left, bottom = 640, 320, 70, 40
    low_x, high_x = -4, 12  # powers of two of FLOP/byte
    top, floor = math.log10(gpu.half) + 0.2, math.log10(gpu.memory * 2**low_x)

    def x(intensity: float) -> float:
        power = min(max(math.log2(max(intensity, 1e-9)), low_x), high_x)
        return left + (power - low_x) / (high_x - low_x) * (width - left - 20)

    def y(rate: float) -> float:
        return 10 + (top - math.log10(max(rate, 10**floor))) / (top - floor) * (height - bottom - 10)

    parts = [f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="roofline">']
    for peak, name in ((gpu.fp32, "float32 units"), (gpu.half, "tensor cores, 16 bits")):
        knee = peak / gpu.memory
        points = f"{x(2**low_x):.1f},{y(gpu.memory * 2**low_x):.1f} {x(knee):.1f},{y(peak):.1f} {x(2**high_x):.1f},{y(peak):.1f}"
        parts.append(f'<polyline points="{points}" fill="none" class="axis" stroke-width="1.5"/>')
        parts.append(
            f'<text class="dim" x="{width - 22}" y="{y(peak) - 5:.1f}" text-anchor="end">{name}: {_si(peak, "FLOP/s")}</text>'
        )
    for power in range(low_x, high_x + 1, 2):
        label = f"{2**power:g}"
        parts.append(f'<text class="dim" x="{x(2**power):.1f}" y="{height - 22}" text-anchor="middle">{label}</text>')
    parts.append(
        f'<text x="{(width + left) / 2}" y="{height - 4}" text-anchor="middle">FLOP for each byte asked of device memory</text>'
    )
    for number, c in enumerate(c for c in found.counted if c.flops and c.kernel.global_bytes):
        peak = gpu.half if c.tensor_flops > c.scalar_flops else gpu.fp32
        rate = c.flops / max(max(c.bounds(gpu).values()), 1e-12)
        at_x, at_y = x(c.intensity), y(min(rate, peak))
        parts.append(f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="5" fill="var(--bad)"/>')
        parts.append(f'<text x="{at_x + 8:.1f}" y="{at_y + 14 + 13 * (number % 3):.1f}">{_e(c.kernel.name)}</text>')
    return "".join(parts) + "</svg>"


def _lanes(line: Line) -> str:
    """Which lane touches which 32-byte sector of device memory."""
    assert line.request is not None
    lanes, size = line.request["lanes"], line.request["bytes"]
    sectors = sorted({s for v in lanes if v is not None for s in range(v // 32, (v + size - 1) // 32 + 1)})
    place = {s: i for i, s in enumerate(sectors)}
    shown = max(len(sectors), 1)
    width, box = 32 * 22 + 8, min(88.0, (32 * 22) / shown)
    parts = [f'<svg viewBox="0 0 {width} 132" width="{width}" role="img" aria-label="lanes and sectors">']
    for lane, at in enumerate(lanes):
        cx = 4 + 22 * lane + 11
        color = "var(--line)" if at is None else "var(--global)"
        parts.append(f'<rect x="{cx - 9}" y="4" width="18" height="18" fill="{color}"/>')
        parts.append(f'<text x="{cx}" y="17" text-anchor="middle" style="fill:var(--paper)">{lane}</text>')
        if at is not None:
            to = 4 + place[at // 32] * box + (at % 32 + size / 2) / 32 * box
            parts.append(f'<line x1="{cx}" y1="22" x2="{to:.1f}" y2="92" stroke="var(--global)" stroke-width="1" opacity=".6"/>')
    for i, sector in enumerate(sectors):
        parts.append(
            f'<rect x="{4 + i * box:.1f}" y="92" width="{max(box - 1, 1):.1f}" height="16" fill="none" stroke="var(--dim)"/>'
        )
        if box >= 40 or i in (0, len(sectors) - 1):
            anchor = "start" if i == 0 else "end" if i == len(sectors) - 1 else "middle"
            at_x = 4 + (i + {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]) * box
            parts.append(f'<text class="dim" x="{at_x:.1f}" y="124" text-anchor="{anchor}">byte {32 * sector:,}</text>')
    return "".join(parts) + "</svg>"


def _banks(line: Line) -> str:
    """How many different words each bank must give; of accesses of more than 4 bytes, in their first phase."""
    assert line.request is not None
    lanes, size = line.request["lanes"], line.request["bytes"]
    phase = 8 if size == 16 else 16 if size == 8 else 32
    banks: list[dict[int, list[int]]] = [{} for _ in range(32)]
    for lane, at in enumerate(lanes[:phase]):
        if at is not None:
            for word in range(at // 4, (at + size - 1) // 4 + 1):
                banks[word % 32].setdefault(word, []).append(lane)
    deepest = max((len(b) for b in banks), default=1) or 1
    cell = 18 if deepest <= 8 else 144 / deepest
    height = 34 + deepest * cell
    parts = [f'<svg viewBox="0 0 {32 * 22 + 8} {height:.0f}" width="{32 * 22 + 8}" role="img" aria-label="banks">']
    for bank, words in enumerate(banks):
        left = 4 + 22 * bank
        parts.append(f'<text class="dim" x="{left + 10}" y="14" text-anchor="middle">{bank}</text>')
        for depth, users in enumerate(words.values()):
            color = "var(--good)" if depth == 0 else "var(--bad)"
            parts.append(
                f'<rect x="{left}" y="{20 + depth * cell:.1f}" width="20" height="{max(cell - 2, 1):.1f}" fill="{color}">'
                f"<title>bank {bank}: lanes {', '.join(map(str, users))}</title></rect>"
            )
            if cell >= 14:
                text = str(users[0]) if len(users) == 1 else f"{users[0]}+"
                at_y = 33 + depth * cell
                parts.append(f'<text x="{left + 10}" y="{at_y:.1f}" text-anchor="middle" style="fill:var(--paper)">{text}</text>')
    return "".join(parts) + "</svg>"


def _about(name: str, line: Line) -> str:
    t = line.traffic
    unit = "sectors" if line.space == "global" else "wavefronts"
    noun = "device memory" if line.space == "global" else "shared memory"
    text = (
        f"<p><b>{_e(name)}</b>: {line.action}s of {line.access_bytes} bytes, {noun}: {t.requests:,} requests, "
        f"{t.per_request:.2f} {unit} each, {t.ratio:.2f} times the ideal, {t.active:.0%} of the lanes.</p>"
    )
    if line.request is None or line.request["bytes"] > 16:
        return text
    if line.space == "global":
        on = f" on {_e(line.request['buffer'])}" if line.request["buffer"] else ""
        told = f"<p>One request{on}: lanes above, below the 32-byte sectors they touch, without the gaps.</p>"
        return text + told + _lanes(line)
    return text + "<p>One request: the 32 banks, and the lanes whose words they hold; red words have to wait.</p>" + _banks(line)


def _source(found: ProgramProfile) -> str:
    name = str(found.path)
    try:
        text = found.path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    traffic = {number: spaces for (file, number), spaces in found.by_line().items() if file == name}
    most = {s: max((t[s].moved for t in traffic.values() if s in t), default=0) or 1 for s in ("global", "shared")}
    lines: dict[int, list[str]] = {}
    for c in found.counted:
        for line in c.kernel.lines:
            file, _, number = line.place.rpartition(":")
            if file == name:
                lines.setdefault(int(number), []).append(_about(c.kernel.name, line))
        for parting in c.kernel.partings:
            file, _, number = parting.place.rpartition(":")
            if file == name and parting.divergent:
                share = parting.divergent / max(parting.branches, 1)
                told = f"<p><b>{_e(c.kernel.name)}</b>: the lanes of a warp part here in {share:.0%} of the times.</p>"
                lines.setdefault(int(number), []).append(told)
    out = []
    for at, source in enumerate(text, 1):
        strips = []
        for space in ("global", "shared"):
            moved = traffic.get(at, {}).get(space)
            share = moved.moved / most[space] if moved else 0.0
            bar = f'<i style="width:{max(100 * share, 4):.0f}%;background:var(--{space})"></i>' if share else ""
            title = f' title="{moved.moved:,} {"sectors" if space == "global" else "wavefronts"}"' if moved else ""
            strips.append(f'<span class="strip"{title}>{bar}</span>')
        hot = " hot" if at in lines else ""
        row = f'<div class="row{hot}">{"".join(strips)}<span class="n">{at}</span><span>{_e(source)}</span></div>'
        out.append(f"<details><summary>{row}</summary><div>{''.join(lines[at])}</div></details>" if hot else row)
    return f'<div class="source">{"".join(out)}</div>'


def _bounds(counted: Sequence[Counted], gpu: Gpu) -> str:
    rows = [[f"<b>{_e(c.kernel.name)}</b>", *(seconds_text(v) for v in c.bounds(gpu).values())] for c in counted]
    return _table(["kernel", "arithmetic", "device memory", "shared memory"], rows)


def page(found: ProgramProfile, gpu: Gpu) -> str:
    """The whole page."""
    counted = sum(k.blocks_counted for k in found.kernels)
    there = sum(k.blocks for k in found.kernels)
    stopped = f'<p class="bad">The program stopped early: {_e(found.stopped)}</p>' if found.stopped else ""
    sections = [
        ("Kernels", _KERNELS, _kernels(found, gpu)),
        ("What bounds them", _BOUNDS.format(gpu=_e(gpu.name)), _bounds(found.counted, gpu) + _roofline(found, gpu)),
        ("Occupancy", _OCCUPANCY, _occupancy(found)),
        ("Source", _SOURCE, _source(found)),
    ]
    body = "".join(f'<h2>{title}</h2><p class="note">{note}</p>{content}' for title, note, content in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_e(found.path.name)}: profile</title><style>{_STYLE}</style></head><body><h1>{_e(found.path)}</h1>"
        f'<p class="note">Counted on the emulated device in {counted:,} of {there:,} blocks.</p>{stopped}{body}</body></html>\n'
    )
