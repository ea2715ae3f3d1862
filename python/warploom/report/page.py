"""One HTML page of a run: everything inside, nothing from a network; and the file it is written to."""

import base64
import hashlib
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np

from warploom.ground.atomic import write_atomically
from warploom.ground.tables import bytes_text
from warploom.report import about, explained, numbers, results, seen
from warploom.report.evidence import Evidence
from warploom.report.markup import Content, Markup, el, join

_NAMES = {
    "training": "Training", "reconstructions": "Images", "latent": "Latent space", "interpolation": "Between images",
    "classification": "Classes", "detection": "Anomalies", "filters": "Filters", "network": "Network", "plan": "Memory, kernels",
    "configuration": "Settings", "environment": "Environment",
}  # fmt: skip
_LOOKING = 0.4  # the share of the time that running the network takes, about
_SIZE = "@@SIZE@@"  # stands for the size of the page in the page


def _silent(what: str, share: float) -> None:
    pass


@np.errstate(all="ignore")  # of a run that went wrong, large numbers are drawn too
def render(found: Evidence, *, live: str | None = None, quick: bool = False, tell: Callable[[str, float], None] = _silent) -> str:
    """The page.

    live: what the live view says of the run. quick: without t-SNE, which takes seconds. tell: is told what is being done, and
    the share of all work that is behind it.
    """
    makers: dict[str, Callable[[], Markup | None]] = {
        "training": lambda: numbers.training(found),
        "reconstructions": lambda: seen.reconstructions(found),
        "latent": lambda: seen.latent_space(found, quick=quick),
        "interpolation": lambda: seen.interpolation(found),
        "classification": lambda: results.classification(found),
        "detection": lambda: results.detection(found),
        "filters": lambda: explained.filters(found),
        "network": lambda: explained.network(found),
        "plan": lambda: explained.plan(found),
        "configuration": lambda: about.configuration(found),
        "environment": lambda: about.environment(found),
    }
    sections: dict[str, Markup | None] = {}
    for i, (name, make) in enumerate(makers.items()):
        tell(_NAMES[name].lower(), _LOOKING + (1.0 - _LOOKING) * i / len(makers))
        sections[name] = make()
    there = {name: made for name, made in sections.items() if made is not None}
    links = el("nav", [el("a", _NAMES[name], href=f"#{name}") for name in there], aria_label="Sections")
    main = el("main", numbers.tiles(found), list(there.values()), id="content")
    made = time.strftime("%Y-%m-%d %H:%M")
    footer = el("footer", f"Made by warploom report, {made}. One file of {_SIZE}: nothing is loaded from anywhere.")
    style, script = (resources.files("warploom.report").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    reached = "'self'" if live else "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'; "
        f"connect-src {reached}; base-uri 'none'; form-action 'none'"
    )
    head = el(
        "head", el("meta", charset="utf-8"), el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=policy), el("meta", name="color-scheme", content="light dark"),
        el("title", f"{found.title} · warploom"), el("style", Markup(style)),
        el("style", Markup(seen.thumbnails(found)), id="sheet"),
    )  # fmt: skip
    body = el("body", _header(found, live), links, main, footer, el("div", id="tip", role="status"), el("script", Markup(script)))
    page = join(Markup("<!doctype html>\n"), el("html", head, body, lang="en", data_live="1" if live else None))
    text = str(page)
    return text.replace(_SIZE, bytes_text(len(text.encode())))


def _header(found: Evidence, live: str | None) -> Markup:
    what: list[Content] = [found.model.name]
    if found.config is not None and found.config.preset:
        what.append(f"preset {found.config.preset}")
    if found.looked is not None:
        what.append(found.looked.title)
    if found.rows:
        of = found.config.epochs if found.config is not None else None
        what.append(f"epoch {found.rows[-1]['epoch']}" + (f" of {of}" if of else ""))
    told = [[" · ", part] if i else part for i, part in enumerate(what)]
    state = el("p", el("i", class_="pulse"), el("span", live, id="state"), class_="live") if live else None
    button = el("button", "◐", type="button", id="theme", title="Light or dark", aria_label="Light or dark")
    return el("header", el("div", el("h1", found.title), el("p", told)), state, button)


def write(found: Evidence, path: str | Path, *, tell: Callable[[str, float], None] = _silent) -> int:
    """Writes the page; its size in bytes. tell: as render() takes it."""
    content = render(found, tell=tell).encode()
    write_atomically(path, content)
    return len(content)
