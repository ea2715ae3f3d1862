"""HTML and SVG as Python calls: what is no Markup is text, and text is escaped.

A page is made of file names, class names and settings that other people wrote; nothing of them may become a tag.
"""

import html
import json
from collections.abc import Iterable
from typing import Any, TypeAlias

_VOID = frozenset({"img", "meta", "br", "circle", "line", "path", "polyline", "rect"})


class Markup(str):
    """Text that is HTML already. Only el(), join() and the page's own style and script make it."""


Content: TypeAlias = "str | int | Iterable[Content] | None"


def text(content: Content) -> str:
    """The content as HTML: markup as it is, anything else escaped, None as nothing."""
    if content is None:
        return ""
    if isinstance(content, Markup):
        return str(content)
    if isinstance(content, (str, int)):
        return html.escape(str(content))
    return "".join(text(part) for part in content)


def el(name: str, /, *content: Content, **attributes: Any) -> Markup:
    """An element. Attributes: class_ and for_ without their underscore, other _ as -; None and False are left out."""
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(key if value is True else f'{key}="{html.escape(_number(value))}"')
    if name in _VOID:
        return Markup(f"<{' '.join(parts)}/>")  # the slash is SVG's; HTML does not mind
    return Markup(f"<{' '.join(parts)}>{text(content)}</{name}>")


def join(*content: Content) -> Markup:
    return Markup(text(content))


def json_text(value: Any) -> str:
    """JSON for an attribute, which el() escapes."""
    return json.dumps(value, separators=(",", ":"))


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table(head: Iterable[Content], rows: Iterable[Iterable[Content]], *, right: int = 1, caption: str | None = None) -> Markup:
    """A table that scrolls sideways by itself where it is wider than the screen; columns from `right` on hold numbers."""

    def cells(kind: str, row: Iterable[Content]) -> list[Markup]:
        return [el(kind, cell, class_="num" if i >= right else None) for i, cell in enumerate(row)]

    titled = el("caption", caption) if caption else None
    header = el("thead", el("tr", cells("th", head)))
    body = el("tbody", [el("tr", cells("td", row)) for row in rows])
    return el("div", el("table", titled, header, body), class_="scroll", tabindex=0)


def facts(pairs: Iterable[tuple[str, Content]]) -> Markup:
    """Names and values, two columns that wrap."""
    return el("dl", [el("div", el("dt", key), el("dd", value)) for key, value in pairs], class_="facts")
