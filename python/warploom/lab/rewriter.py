"""CUDA source to C++ source: launches, `__shared__`, variables of the device, inline PTX. The rest is C++ already, or a macro.

A rewriter of tokens and not of a syntax tree, because launches and `__shared__` inside a #define must be reached too (docs/lab.md
says what was tried). Lines stay where they are, so that every report names the user's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from warploom.lab import ptx
from warploom.lab.refusal import Refusal
from warploom.lab.tokens import Token, closing, solid, text_of, tokenize

# Libraries that are not modelled; naming them is better than a compiler's "no such file".
_LIBRARIES = re.compile(
    r"^(thrust/|cub/|cutlass|cute/|cudnn|curand|cufft|cusparse|cusolver|nvml|npp|nvtx|nccl|cuda/|nppi|GL/|optix|mpi)"
)
_SPECIFIERS = {"static", "extern", "volatile", "const", "inline", "__device__", "__constant__", "__managed__", "__shared__"}
_WITH_PARENTHESES = {"__align__", "alignas", "__launch_bounds__", "__attribute__", "decltype", "__declspec", "__cluster_dims__"}
# API calls that know whether the program looks at what they return (kernels/lab/host_errors.cpp).
_LOOKED_AT = re.compile(
    r"cuda(Malloc\w*|HostAlloc|Free\w*|Memcpy(2D)?(Async)?|Memset\w*|SetDevice|DeviceSynchronize|Stream(Create\w*|Synchronize|Destroy)"
    r"|Event(Create\w*|Record|Synchronize|Destroy|ElapsedTime)|FuncSetAttribute|LaunchKernel|LaunchCooperativeKernel)$"
)


@dataclass
class Rewritten:
    """`text`: C++. `includes`: the local files it includes, which are to be rewritten too."""

    text: str
    includes: list[Path] = field(default_factory=list)


class _File:
    def __init__(self, source: str, path: Path) -> None:
        self.path = path
        self.tokens = tokenize(source)
        self.count = 0
        self.bounds: dict[str, str] = {}
        self.dynamic: list[tuple[str, str]] = []  # `extern __shared__` outside of functions: type and name

    def refuse(self, index: int, why: str) -> Refusal:
        return Refusal(str(self.path), self.tokens[index].line, why)

    def is_sign(self, index: int, text: str) -> bool:
        return 0 <= index < len(self.tokens) and self.tokens[index].kind == "sign" and self.tokens[index].text == text

    def is_word(self, index: int, *texts: str) -> bool:
        return (
            0 <= index < len(self.tokens)
            and self.tokens[index].kind == "word"
            and (not texts or self.tokens[index].text in texts)
        )

    def triple(self, index: int, sign: str) -> int | None:
        """The last token of `<<<`, which some formatters write as `<< <`."""
        if not (self.is_sign(index, sign) and self.is_sign(index + 1, sign)):
            return None
        third = solid(self.tokens, index + 2)
        return third if self.is_sign(third, sign) else None

    # ---- Launches ----

    def kernel_start(self, end: int) -> int:
        """Where the expression that ends at `end` and names a kernel begins: ns::kernel<A, B>, k, table[i], this->k, (*k)."""
        t, at = self.tokens, end
        while True:
            if self.is_sign(at, ">"):
                depth = 0
                while at >= 0:
                    if t[at].kind == "sign" and t[at].text in ")]}":
                        opening = closing(t, at, -1)
                        if opening is None:
                            raise self.refuse(end, "cannot tell which kernel is launched here")
                        at = opening
                    elif self.is_sign(at, ">") and not self.is_sign(at - 1, "-"):
                        depth += 1
                    elif self.is_sign(at, "<"):
                        depth -= 1
                        if depth == 0:
                            break
                    at -= 1
                at = solid(t, at - 1, -1)
            while self.is_sign(at, ")") or self.is_sign(at, "]"):
                opening = closing(t, at, -1)
                if opening is None:
                    raise self.refuse(end, "cannot tell which kernel is launched here")
                start, at = opening, solid(t, opening - 1, -1)
                if not (self.is_word(at) or self.is_sign(at, ")") or self.is_sign(at, "]")):
                    return start
            if not self.is_word(at):
                raise self.refuse(end, "cannot tell which kernel is launched here")
            before = solid(t, at - 1, -1)
            if self.is_sign(before, ":") and self.is_sign(before - 1, ":"):
                qualifier = solid(t, before - 2, -1)
                if not (self.is_word(qualifier) or self.is_sign(qualifier, ">")) or self.is_word(qualifier, "return"):
                    return before - 1
                at = qualifier
            elif self.is_sign(before, "."):
                at = solid(t, before - 1, -1)
            elif self.is_sign(before, ">") and self.is_sign(before - 1, "-"):
                at = solid(t, before - 2, -1)
            else:
                return at

    def launch(self, index: int, opened: int) -> None:
        t = self.tokens
        end = solid(t, index - 1, -1)
        start = self.kernel_start(end)
        kernel = " ".join(re.sub(r"\\\n", " ", text_of([k for k in t[start : end + 1] if k.kind != "comment"])).split())
        at, depth, closed = opened + 1, 0, -1
        while at < len(t):
            token = t[at]
            if token.kind == "sign" and token.text in "([{":
                depth += 1
            elif token.kind == "sign" and token.text in ")]}":
                depth -= 1
            elif depth == 0 and (last := self.triple(at, ">")) is not None and self.is_sign(solid(t, last + 1), "("):
                closed = last
                break
            if token.kind == "end" or depth < 0:
                raise self.refuse(index, "`<<<` without its `>>>`")
            at += 1
        if closed < 0:
            raise self.refuse(index, "a launch without its `>>>` and its arguments in parentheses")
        opening = solid(t, closed + 1)
        end_of_arguments = closing(t, opening)
        if end_of_arguments is None:
            raise self.refuse(index, "a launch whose parentheses do not end")
        self.scan(opened + 1, at)  # a launch or PTX inside of the configuration
        configuration = text_of(t[opened + 1 : at])
        for k in range(opening + 1, end_of_arguments):  # NULL would arrive as an integer
            if self.is_word(k, "NULL") and t[solid(t, k - 1, -1)].text in "(," and t[solid(t, k + 1)].text in "),":
                t[k].text = "nullptr"
        self.scan(opening + 1, end_of_arguments)
        name = kernel.split("<")[0].split("::")[-1].strip()
        bounded = f".wl_bounded({self.bounds[name]})" if name in self.bounds else ""
        for k in range(start, closed + 1):
            if opened < k < at:
                t[k].text = ""  # in the configuration's text, with its line ends
            else:
                t[k].blank()
        t[start].text = (
            f"::wl_configured({configuration}){bounded}.wl_kernel(WL_NAME({kernel}), "
            f'[&](auto&&... wl_a) __attribute__((no_sanitize("thread"))) {{ {kernel}(wl_a...); }})' + t[start].text.strip(" ")
        )

    # ---- `__shared__` ----

    def statement_start(self, index: int) -> int:
        at = index - 1
        while at >= 0:
            token = self.tokens[at]
            if token.kind in ("directive", "end") or (token.kind == "sign" and token.text in ";{}"):
                break
            if token.kind == "sign" and token.text == ":" and not self.is_sign(at - 1, ":") and not self.is_sign(at + 1, ":"):
                break
            at -= 1
        return solid(self.tokens, at + 1)

    def statement_end(self, index: int) -> int:
        """The `;`, or the end of the #define."""
        depth = 0
        while index < len(self.tokens):
            token = self.tokens[index]
            if token.kind == "end":
                return index
            if token.kind == "sign":
                depth += (token.text in "([{") - (token.text in ")]}")
                if depth < 0 or (token.text == ";" and depth == 0):
                    return index
            index += 1
        return index

    def declarators(self, start: int, end: int) -> list[int]:
        """The tokens that are the declared names, in `float a[32][33], *b`."""
        t, found, name = self.tokens, [], -1
        at, angle = start, 0
        while at <= end:
            token = t[at] if at < end else Token("sign", ";", 0)
            if token.kind == "word" and token.text in _WITH_PARENTHESES:
                last = closing(t, solid(t, at + 1))
                at = end if last is None else last
            elif token.kind == "sign" and token.text == "{":  # a body of a struct or union
                last = closing(t, at)
                at = end if last is None else last
            elif token.kind == "word" and angle == 0 and name != -2:
                name = at
            elif token.kind == "sign" and token.text == "<":
                angle += 1
            elif token.kind == "sign" and token.text == ">":
                angle -= 1
            elif token.kind == "sign" and token.text == "[" and angle == 0:
                if name >= 0:
                    found.append(name)
                    name = -2
                last = closing(t, at)
                at = end if last is None else last
            elif token.kind == "sign" and token.text in ",;" and angle <= 0:
                if name >= 0:
                    found.append(name)
                name = -1
            at += 1
        return found

    def shared(self, index: int, inside_function: bool) -> None:
        t = self.tokens
        start, end = self.statement_start(index), self.statement_end(index)
        external = any(self.is_word(k, "extern") for k in range(start, end))
        for k in range(start, end):
            if self.is_word(k, "static", "extern", "__shared__"):
                t[k].text = ""
            elif self.is_word(k, "alignas"):
                last = closing(t, solid(t, k + 1))
                if last is not None:
                    t[k].text, t[last].text = "__attribute__((aligned", ")))"
        names = self.declarators(start, end)
        if not names:
            raise self.refuse(index, "cannot read this __shared__ declaration")
        if external and not inside_function:
            self.dynamic.append((text_of([k for k in t[start : names[0]] if k.kind != "comment"]).strip(), t[names[0]].text))
            for k in range(start, min(end + 1, len(t))):
                t[k].blank()
            return
        self.count += 1
        after = ""
        for k in names:
            name = t[k].text
            new = f"wl_{name}_{self.count}"
            t[k].text = new
            if external:
                after += f"; auto& {name} = WL_DYNAMIC_PLACE({new})"
            else:
                after += f'; static char {new}_site; auto& {name} = WL_SHARED_PLACE({new}, {new}_site, "{name}")'
        t[start].text = "typedef " + t[start].text
        t[end - 1].text += after
        t[index].text = "" if index != start else t[index].text

    # ---- Variables of the device ----

    def variable(self, index: int, in_template: bool) -> None:
        t, at = self.tokens, index
        start = self.statement_start(index)
        while at < len(t):
            token = t[at]
            if token.kind in ("end", "directive"):
                break
            if token.kind == "word":
                if token.text == "operator":
                    return
                if token.text in _WITH_PARENTHESES:
                    last = closing(t, solid(t, at + 1))
                    at = len(t) if last is None else last
            elif token.kind == "sign" and token.text == "<":
                depth = 0
                while at < len(t) and t[at].text not in ";{":
                    depth += (t[at].text == "<") - (t[at].text == ">")
                    if depth == 0:
                        break
                    at += 1
            elif token.kind == "sign" and token.text in "(":
                return
            elif token.kind == "sign" and token.text in ";=[{":
                break
            at += 1
        words = {k.text for k in t[start:at] if k.kind == "word"}
        if words & {"const", "constexpr", "inline", "extern", "template", "struct", "class", "operator"} or in_template:
            return
        if any(k.text.startswith("WL_") and k.text.endswith("_VARIABLE") for k in t[start:at]):
            return
        t[index].text = "WL_CONSTANT_VARIABLE" if t[index].text == "__constant__" else "WL_DEVICE_VARIABLE"

    # ---- The whole file ----

    def scan(self, first: int, end: int) -> None:
        """What may stand inside of expressions."""
        at = first
        while at < end:
            if not self.is_sign(at - 1, "<") and (opened := self.triple(at, "<")) is not None:
                self.launch(at, opened)
            elif self.is_word(at, "asm", "__asm__", "__asm"):
                ptx.rewrite(self.tokens, at, str(self.path))
            elif self.is_word(at, "__noinline__"):
                self.tokens[at].text = "__attribute__((noinline))"
            at += 1

    def whole(self) -> None:
        t = self.tokens
        for at, token in enumerate(t):
            if token.text == "__launch_bounds__":
                opening = solid(t, at + 1)
                last = closing(t, opening)
                number = solid(t, opening + 1)
                name = solid(t, last + 1) if last is not None else len(t)
                if self.is_word(name, "void"):
                    name = solid(t, name + 1)
                if self.is_word(name) and number < len(t) and t[number].kind == "number" and t[solid(t, number + 1)].text in ",)":
                    self.bounds[t[name].text] = t[number].text
        functions: list[bool] = []  # for every open brace: is it inside a function?
        header_from = 0
        at = 0
        while at < len(t):
            token = t[at]
            if token.kind == "sign" and token.text == "{":
                header = [k.text for k in t[header_from:at] if k.kind in ("word", "sign", "string")]
                opens_scope = "(" not in header and (
                    bool({"namespace", "class", "struct", "union", "enum"} & set(header))
                    or header[-2:-1] == ["extern"]
                    or '"C"' in header
                )
                inside = bool(functions and functions[-1]) or not opens_scope
                if inside and not (functions and functions[-1]) and {"__global__", "__device__"} & set(header):
                    self.give_dynamic(at)
                functions.append(inside)
                header_from = at + 1
            elif token.kind == "sign" and token.text == "}":
                if functions:
                    functions.pop()
                header_from = at + 1
            elif token.kind == "sign" and token.text == ";":
                header_from = at + 1
            elif token.kind in ("directive", "end"):
                header_from = at + 1 if not functions or not functions[-1] else header_from
            if self.is_word(at, "__shared__"):
                in_define = any(k.kind == "directive" for k in t[max(0, self.statement_start(at) - 2) : self.statement_start(at)])
                self.shared(at, bool(functions and functions[-1]) or in_define)
            elif self.is_word(at, "__device__", "__constant__", "__managed__"):
                words = [k.text for k in t[header_from:at] if k.kind == "word"]
                self.variable(at, "template" in words)
            elif self.is_word(at) and _LOOKED_AT.match(token.text):
                before = solid(t, at - 1, -1)
                starts = before >= 0 and (t[before].text in (";", "{", "}", "else") and t[before].kind in ("sign", "word"))
                if starts and functions and functions[-1] and self.is_sign(solid(t, at + 1), "("):
                    token.text = "::warploom::lab::discarded(), " + token.text
            at += 1
        self.scan(0, len(t))

    def give_dynamic(self, brace: int) -> None:
        end = closing(self.tokens, brace)
        used = {k.text for k in self.tokens[brace : end or len(self.tokens)] if k.kind == "word"}
        for type_text, name in self.dynamic:
            if name in used:
                self.tokens[
                    brace
                ].text += f" auto* {name} = reinterpret_cast<{type_text}*>(::warploom::emulator::dynamic_shared());"

    def includes(self) -> list[tuple[int, str, bool]]:
        """(token, name, in quotes) of every #include."""
        found = []
        for at, token in enumerate(self.tokens):
            if token.kind == "directive" and (m := re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', token.text)):
                found.append((at, m.group(2), m.group(1) == '"'))
        return found

    def registrations(self) -> str:
        """Kernels that are passed as `(void*)kernel`: their parameters' types must be known elsewhere."""
        names = set()
        text = text_of([t for t in self.tokens if t.kind != "comment"])
        if "cudaLaunchKernel" not in text and "cudaLaunchCooperativeKernel" not in text:
            return ""
        kernels = set(re.findall(r"__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(?:static\s+)?void\s+(\w+)\s*\(", text))
        templates = set(re.findall(r"template\s*<[^;{]*?>\s*(?:static\s+)?__global__[^;{(]*?void\s+(\w+)\s*\(", text))
        for name in re.findall(r"\(\s*(?:const\s+)?void\s*\*\s*\)\s*&?\s*(\w+)", text):
            if name in kernels - templates:
                names.add(name)
        return "".join(f'\nstatic ::warploom::lab::Registration wl_registered_{n}({n}, "{n}");' for n in sorted(names))


def rewrite(source: str, path: Path, place: dict[Path, Path] | None = None) -> Rewritten:
    """C++ of a CUDA source; `path` is what reports name. `place`: where the rewritten local includes will lie.

    Raises:
        Refusal: for what the lab does not model, with the line.
    """
    file = _File(source, path)
    includes = []
    for at, name, in_quotes in file.includes():
        beside = (path.parent / name).resolve()
        if in_quotes and beside.is_file():
            includes.append(beside)
            if place is not None and beside in place:
                file.tokens[at].text = f'#include "{place[beside]}"'
        elif _LIBRARIES.match(name):
            raise Refusal(str(path), file.tokens[at].line, f"{name} belongs to a library that the lab does not model")
    file.whole()
    tail = file.registrations()
    text = text_of(file.tokens)
    return Rewritten(f'#line 1 "{path}"\n' + text + ("\n" if not text.endswith("\n") else "") + tail + "\n", includes)
