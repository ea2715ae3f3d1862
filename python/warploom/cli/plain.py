"""Text that any terminal takes: no control character of a file's name reaches it, no letter that it lacks ends the program."""

import codecs
import re
import sys

_NEAREST = str.maketrans({
    "\u00d7": "x", "·": "*", "—": "-", "\u2013": "-", "…": "...", "→": "->", "│": "|", "─": "-", "┃": "|", "━": "-", "•": "*",
    "≥": ">=", "≤": "<=", "\u2019": "'", "Σ": "sum", "√": "sqrt", "⌊": "floor(", "⌋": ")",
    **dict.fromkeys("╭╮╯╰┌┐└┘├┤┬┴┼┏┓┗┛┡┩╇┳┻╋", "+"),
})  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The text with control characters written out, so that a name cannot move the cursor, colour or reverse what follows."""

    def written(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return _CONTROL.sub(written, text)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_NEAREST)
    return text.encode("ascii", "replace").decode("ascii"), error.end


def take_any_text() -> None:
    """Makes stdout and stderr write what their encoding has not with the nearest of what it has."""
    codecs.register_error("warploom-nearest", _nearest)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="warploom-nearest")
