"""A CUDA source as tokens that, joined, are the source again: a rewriter changes the text of single tokens, so lines stay."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PIECE = re.compile(
    r"""
    (?P<space>(?:\s|\\\r?\n)+)
  | (?P<comment>//(?:[^\n\\]|\\\r?\n|\\.)*|/\*.*?\*/)
  | (?P<string>(?:u8|[uUL])?R"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)"|(?:u8|[uUL])?"(?:[^"\\\n]|\\.)*")
  | (?P<char>(?:u8|[uUL])?'(?:[^'\\\n]|\\.)+')
  | (?P<number>\.?\d(?:[eEpP][+-]|'(?=[\w])|[\w.])*)
  | (?P<word>[A-Za-z_$][\w$]*)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_DIRECTIVE = re.compile(r"[ \t]*#(?:[^\n\\/]|\\\r?\n|\\.|/\*.*?\*/|/(?![/*])|//[^\n]*)*", re.DOTALL)
_DEFINE_HEAD = re.compile(r"[ \t]*#[ \t]*define[ \t]+[A-Za-z_]\w*(?:\([^)]*\))?", re.DOTALL)


@dataclass
class Token:
    """`kind`: space, comment, string, char, number, word, sign, directive (whole, or a #define's head), end (of a #define)."""

    kind: str
    text: str
    line: int

    def blank(self) -> None:
        """Takes the text out and leaves its line ends."""
        self.text = "".join(re.findall(r"\\\r?\n|\n", self.text)) or (" " if self.text and self.kind != "sign" else "")


def tokenize(source: str) -> list[Token]:
    """The tokens of a file. The body of a #define is tokens too, between its head and an `end`."""
    found: list[Token] = []
    at, line = 0, 1
    fresh = True  # only space since the line began: a # begins a directive

    def add(kind: str, text: str) -> None:
        nonlocal at, line
        found.append(Token(kind, text, line))
        at += len(text)
        line += text.count("\n")

    while at < len(source):
        if fresh and (directive := _DIRECTIVE.match(source, at)):
            head = _DEFINE_HEAD.match(source, at)
            if head is None:
                add("directive", directive.group())
            else:
                end = directive.end()
                add("directive", head.group())
                while at < end:
                    piece = _PIECE.match(source, at, end)
                    assert piece is not None
                    add(str(piece.lastgroup if piece.lastgroup != "mark" else "string"), piece.group())
                add("end", "")
            fresh = False
            continue
        piece = _PIECE.match(source, at)
        assert piece is not None
        kind = str(piece.lastgroup if piece.lastgroup != "mark" else "string")
        text = piece.group()
        if kind == "space" and "\n" in text:  # what stands before a # on its line belongs to the directive
            text = text[: text.rindex("\n") + 1]
            add(kind, text)
            fresh = True
            continue
        add(kind, text)
        fresh = fresh and kind in ("space", "comment") and (kind == "space" or "\n" not in text or True)
    return found


OPENING, CLOSING = {"(": ")", "[": "]", "{": "}"}, {")": "(", "]": "[", "}": "{"}


def solid(tokens: list[Token], index: int, step: int = 1) -> int:
    """The first index from `index` on, in steps of `step`, that is neither space nor comment; beyond the ends if none is."""
    while 0 <= index < len(tokens) and tokens[index].kind in ("space", "comment"):
        index += step
    return index


def closing(tokens: list[Token], index: int, step: int = 1) -> int | None:
    """The bracket that belongs to the one at `index`, looking forward (step 1) or back (-1)."""
    pairs = OPENING if step == 1 else CLOSING
    stack: list[str] = []
    while 0 <= index < len(tokens):
        token = tokens[index]
        if token.kind in ("end",) or (token.kind == "directive" and step == -1 and "define" in token.text):
            return None
        if token.kind == "sign":
            if token.text in pairs:
                stack.append(pairs[token.text])
            elif token.text in pairs.values():
                if not stack or stack.pop() != token.text:
                    return None
                if not stack:
                    return index
        index += step
    return None


def text_of(tokens: list[Token]) -> str:
    return "".join(t.text for t in tokens)
