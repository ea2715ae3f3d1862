"""Inline PTX to C++: `asm volatile("..." : outputs : inputs)` becomes calls of kernels/lab/ptx.h.

Reads the template as PTX does: instructions, `.reg` declarations, predicates, vectors, addresses. What is not modelled
is refused by name. Long because it is one table of instructions, each with its rule.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass

from warploom.lab.refusal import Refusal
from warploom.lab.tokens import Token, closing, solid, text_of

_TYPES = {
    "b8": "uint8_t",
    "u8": "uint8_t",
    "s8": "int8_t",
    "b16": "uint16_t",
    "u16": "uint16_t",
    "s16": "int16_t",
    "f16": "uint16_t",
    "bf16": "uint16_t",
    "b32": "uint32_t",
    "u32": "uint32_t",
    "s32": "int32_t",
    "f32": "float",
    "b64": "uint64_t",
    "u64": "uint64_t",
    "s64": "int64_t",
    "f64": "double",
    "f16x2": "uint32_t",
    "bf16x2": "uint32_t",
    "tf32": "uint32_t",
    "pred": "bool",
}
_SPECIAL = {
    "laneid": "static_cast<unsigned>(::warploom::emulator::lane_number())",
    "warpid": "(::warploom::emulator::own(::warploom::emulator::own(::warploom::emulator::current_identity)->number) >> 5)",
    "smid": "0u",
    "nsmid": "132u",
    "gridid": "0u",
    "clock": "static_cast<uint32_t>(clock64())",
    "clock64": "clock64()",
    "globaltimer": "globaltimer()",
    "globaltimer_lo": "static_cast<uint32_t>(globaltimer())",
    "lanemask_lt": "((1u << ::warploom::emulator::lane_number()) - 1u)",
    "lanemask_eq": "(1u << ::warploom::emulator::lane_number())",
    "lanemask_le": "((2u << ::warploom::emulator::lane_number()) - 1u)",
    "lanemask_gt": "~((2u << ::warploom::emulator::lane_number()) - 1u)",
    "lanemask_ge": "~((1u << ::warploom::emulator::lane_number()) - 1u)",
    **{
        f"{name}.{axis}": f"({word}.{axis})"
        for name, word in (("tid", "threadIdx"), ("ctaid", "blockIdx"), ("ntid", "blockDim"), ("nctaid", "gridDim"))
        for axis in "xyz"
    },
}
_P = "::warploom::lab::ptx::"
_UNARY = {
    "not": "~{0}",
    "neg": "-{0}",
    "abs": "({0} < 0 ? -{0} : {0})",
    "popc": "__builtin_popcountll({0})",
    "brev": "__brev({0})",
    "clz": "__clz(static_cast<int>({0}))",
    "ex2": "std::exp2({0})",
    "lg2": "std::log2({0})",
    "rcp": "(1 / {0})",
    "rsqrt": "(1 / std::sqrt({0}))",
    "sqrt": "std::sqrt({0})",
    "sin": "std::sin({0})",
    "cos": "std::cos({0})",
    "tanh": "std::tanh({0})",
}
_BINARY = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "rem": "{0} % {1}",
    "min": "({0} < {1} ? {0} : {1})",
    "max": "({0} > {1} ? {0} : {1})",
    "and": "{0} & {1}",
    "or": "{0} | {1}",
    "xor": "{0} ^ {1}",
    "shl": "{0} << {1}",
    "shr": "{0} >> {1}",
}
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}


class _Unknown(Exception):
    """This instruction is not modelled."""


@dataclass
class _Instruction:
    parts: list[str]  # of the mnemonic
    operands: list[str]

    def value(self, index: int, kind: str) -> str:
        return f"{_P}as<{_TYPES[kind]}>({self.operands[index]})"

    def vector(self, index: int) -> list[str]:
        text = self.operands[index]
        return [v.strip() for v in text[1:-1].split(",")] if text.startswith("{") else [text]

    def address(self, index: int) -> str:
        m = re.fullmatch(r"\[\s*(.*?)\s*(?:\+\s*(-?\w+)\s*)?\]", self.operands[index])
        if m is None:
            raise _Unknown
        return f"{m.group(1)}, {m.group(2) or 0}"


def _put(target: str, value: str) -> str:
    return f"{_P}put({target}, {value});"


def _arithmetic(i: _Instruction) -> str:
    name, kind = i.parts[0], i.parts[-1]
    if kind not in _TYPES or kind in ("f16", "bf16", "f16x2", "bf16x2") or "sat" in i.parts or "cc" in i.parts:
        raise _Unknown
    if name in _UNARY:
        return _put(i.operands[0], _UNARY[name].format(i.value(1, kind)))
    if name in _BINARY:
        if name in ("min", "max") or ("wide" not in i.parts and "hi" not in i.parts):
            second = i.value(2, "u32" if name in ("shl", "shr") else kind)
            first = i.value(1, kind)
            if kind == "pred":
                first, second = f"({first})", f"({second})"
            return _put(i.operands[0], f"static_cast<{_TYPES[kind]}>({_BINARY[name].format(first, second)})")
        wide = {"u32": "uint64_t", "s32": "int64_t"}.get(kind)
        if name != "mul" or wide is None:
            raise _Unknown
        product = f"static_cast<{wide}>({i.value(1, kind)}) * {i.value(2, kind)}"
        return _put(i.operands[0], product if "wide" in i.parts else f"static_cast<{_TYPES[kind]}>(({product}) >> 32)")
    if (name == "mad" and "lo" in i.parts) or name == "fma" or (name == "mad" and kind == "f32"):
        a, b, c = (i.value(k, kind) for k in (1, 2, 3))
        if kind in ("f32", "f64"):
            return _put(i.operands[0], f"std::fma({a}, {b}, {c})")
        return _put(i.operands[0], f"static_cast<{_TYPES[kind]}>({a} * {b} + {c})")
    if name == "setp":
        return _put(i.operands[0], f"{i.value(1, kind)} {_COMPARE[i.parts[1]]} {i.value(2, kind)}")
    if name == "selp":
        return _put(i.operands[0], f"({i.operands[3]} ? {i.value(1, kind)} : {i.value(2, kind)})")
    if name == "lop3":
        a, b, c = (i.value(k, "u32") for k in (1, 2, 3))
        return _put(i.operands[0], f"{_P}lop3({a}, {b}, {c}, {i.operands[4]})")
    if name == "prmt":
        return _put(i.operands[0], f"__byte_perm({i.value(1, 'u32')}, {i.value(2, 'u32')}, {i.value(3, 'u32')})")
    if name == "bfe":
        return _put(i.operands[0], f"{_P}bit_field({i.value(1, kind)}, {i.value(2, 'u32')}, {i.value(3, 'u32')})")
    if name == "bfi":
        a, b = i.value(1, "u32"), i.value(2, "u32")
        return _put(i.operands[0], f"{_P}insert_field({a}, {b}, {i.value(3, 'u32')}, {i.value(4, 'u32')})")
    raise _Unknown


def _mov(i: _Instruction) -> str:
    to, source = i.operands
    if to.startswith("{"):
        low, high = i.vector(0)
        half = 32 if i.parts[-1] == "b64" else 16
        return f"{_P}split<{half}>({source}, {low}, {high});"
    if source.startswith("{"):
        low, high = i.vector(1)
        return f"{_P}join({to}, {low}, {high});"
    return _put(to, source)


def _cvt(i: _Instruction) -> str:
    p = i.parts
    to, of = p[-2], p[-1]
    if to in ("f16x2", "bf16x2") and of == "f32":
        return _put(i.operands[0], f"{_P}pack_{to[:-2]}({i.value(2, 'f32')}, {i.value(1, 'f32')})")  # the first is the upper half
    if to == "tf32":
        return _put(i.operands[0], f"::warploom::emulator::round_tf32({_P}as<uint32_t>({i.operands[1]}))")
    if of == "f32" and to in ("f16", "bf16"):
        return _put(i.operands[0], f"static_cast<uint16_t>(::warploom::emulator::round_{to}({i.value(1, 'f32')}))")
    if to == "f32" and of in ("f16", "bf16"):
        return _put(i.operands[0], f"{_P}from_{of}({i.value(1, of)})")
    if of in ("f16", "bf16") or to in ("f16", "bf16") or "sat" in p:
        raise _Unknown
    rounding = {"rni": "std::nearbyint", "rmi": "std::floor", "rpi": "std::ceil"}
    value = i.value(1, of)
    for word, function in rounding.items():
        if word in p:
            value = f"{function}({value})"
    return _put(i.operands[0], f"static_cast<{_TYPES[to]}>({value})")


def _load_store(i: _Instruction) -> str:
    p = i.parts
    kind = p[-1]
    space = "shared" if any(x.startswith("shared") for x in p) else "global"
    if any(x in p for x in ("param", "const", "local")) or kind not in _TYPES:
        raise _Unknown
    count = 4 if "v4" in p else 2 if "v2" in p else 1
    pointer = f"{_P}{space}_pointer<{_TYPES[kind]}, {count}>"
    if p[0] == "ld":
        return f"{_P}load<{_TYPES[kind]}>({pointer}({i.address(1)}), {', '.join(i.vector(0))});"
    return f"{_P}store<{_TYPES[kind]}>({pointer}({i.address(0)}), {', '.join(i.vector(1))});"


def _atomic(i: _Instruction) -> str:
    p = i.parts
    kind = p[-1]
    names = {
        "add": "atomicAdd",
        "min": "atomicMin",
        "max": "atomicMax",
        "and": "atomicAnd",
        "or": "atomicOr",
        "xor": "atomicXor",
        "exch": "atomicExch",
    }
    types = {"u32": "unsigned", "s32": "int", "b32": "unsigned", "u64": "unsigned long long", "f32": "float", "f64": "double"}
    op = next((x for x in p if x in names or x == "cas"), None)
    if op is None or kind not in types:
        raise _Unknown
    space = "shared" if any(x.startswith("shared") for x in p) else "global"
    fence = "::warploom::emulator::fence(); " if {"release", "acq_rel", "acquire"} & set(p) else ""
    first = 1 if p[0] == "atom" else 0
    pointer = f"{_P}{space}_pointer<{types[kind]}, 1>({i.address(first)})"
    values = ", ".join(f"{_P}as<{types[kind]}>({v})" for v in i.operands[first + 1 :])
    call = f"{'atomicCAS' if op == 'cas' else names[op]}({pointer}, {values})"
    return fence + (_put(i.operands[0], call) if p[0] == "atom" else call + ";")


def _ldmatrix(i: _Instruction) -> str:
    if "m8n8" not in i.parts or i.parts[-1] != "b16":
        raise _Unknown
    count = {"x1": 1, "x2": 2, "x4": 4}[next(x for x in i.parts if x in ("x1", "x2", "x4"))]
    trans = "true" if "trans" in i.parts else "false"
    return f"{_P}ldmatrix<{count}, {trans}>({_P}shared_pointer<uint32_t, 4>({i.address(1)}), {', '.join(i.vector(0))});"


def _mma(i: _Instruction) -> str:
    shape = i.parts[3]
    types = tuple(i.parts[-4:])
    known: dict[tuple[str, ...], str] = {
        ("m16n8k16", "f32", "f16", "f16", "f32"): "mma_m16n8k16_f16",
        ("m16n8k16", "f32", "bf16", "bf16", "f32"): "mma_m16n8k16_bf16",
        ("m16n8k8", "f32", "f16", "f16", "f32"): "mma_m16n8k8_f16",
        ("m16n8k8", "f32", "tf32", "tf32", "f32"): "mma_m16n8k8_tf32",
        ("m16n8k16", "f16", "f16", "f16", "f16"): "mma_m16n8k16_f16",
        ("m16n8k8", "f16", "f16", "f16", "f16"): "mma_m16n8k8_f16",
    }
    op = known.get((shape, *types))
    if op is None or i.parts[-6:-4] != ["row", "col"]:
        raise _Unknown
    d, a, b, c = (i.vector(k) for k in range(4))
    zero = ["0"]
    a, b = a + zero * (4 - len(a)), b + zero * (2 - len(b))
    half = "_half" if types[0] == "f16" else ""
    return f"{_P}mma{half}(::warploom::emulator::TensorOp::{op}, {', '.join([*d, *a, *b, *c])});"


def _shared(i: _Instruction, index: int) -> str:
    return f"{_P}shared_pointer<char, 1>({i.address(index)})"


def _mbarrier(i: _Instruction) -> str:
    """Of the states that arriving gives only the sink `_` is modelled: waiting goes by parity."""
    p = i.parts
    if "init" in p:
        return f"::warploom::emulator::barrier_init({_shared(i, 0)}, {i.value(1, 'u32')});"
    if "inval" in p:
        return ""
    if "arrive" in p and i.operands[0] == "_" and "noComplete" not in p and "shared::cluster" not in p:
        expected = i.value(2, "u32") if "expect_tx" in p else "0u"
        if "expect_tx" not in p and len(i.operands) > 2:  # several arrivals at once
            raise _Unknown
        return f"::warploom::emulator::barrier_arrive({_shared(i, 1)}, {expected});"
    if ("try_wait" in p or "test_wait" in p) and "parity" in p:  # waits until it can say yes
        return f"::warploom::emulator::barrier_wait({_shared(i, 1)}, {i.value(2, 'u32')}); " + _put(i.operands[0], "true")
    raise _Unknown


def _bulk(i: _Instruction) -> str:
    p = i.parts
    if "global" not in p or "mbarrier::complete_tx::bytes" not in p or {"multicast::cluster", "im2col", "reduce"} & set(p):
        raise _Unknown
    if "tensor" not in p:
        of = f"{_P}global_pointer<char, 1>({i.address(1)})"
        return f"::warploom::emulator::bulk_copy({_shared(i, 0)}, {of}, {i.value(2, 'u32')}, {_shared(i, 3)});"
    m = re.fullmatch(r"\[\s*(.*?)\s*,\s*\{(.*)\}\s*\]", i.operands[1])
    rank = {"1d": 1, "2d": 2, "3d": 3, "4d": 4}[next(x for x in p if re.fullmatch(r"[1-5]d", x))]
    if m is None or len(at := _split(m.group(2))) != rank:
        raise _Unknown
    at = [f"{_P}as<int>({x})" for x in at] + ["0"] * (4 - rank)
    tensor = f"reinterpret_cast<const ::warploom::TensorMap*>({_P}as<uint64_t>({m.group(1)}))"
    return f"::warploom::emulator::bulk_copy_tensor({_shared(i, 0)}, {tensor}, {', '.join(at)}, {_shared(i, 2)});"


def _wgmma(i: _Instruction) -> str:
    p = i.parts
    if p[1] == "fence":
        return "::warploom::emulator::warpgroup_fence();"
    if p[1] == "commit_group":
        return "::warploom::emulator::warpgroup_commit();"
    if p[1] == "wait_group":
        return f"::warploom::emulator::warpgroup_wait({i.operands[0]});"
    shape, (sum_type, a_type, b_type) = re.fullmatch(r"m64n(\d+)k(8|16)", p[4]), p[5:8]
    if p[1] != "mma_async" or shape is None or sum_type != "f32" or a_type != b_type or len(p) != 8:
        raise _Unknown
    types = {("f16", "16"): "f16", ("bf16", "16"): "bf16", ("tf32", "8"): "tf32"}
    kind = f"::warploom::emulator::OperandType::{types[a_type, shape.group(2)]}"
    d, a, b, add = i.vector(0), i.operands[1], i.operands[2], i.operands[3]
    across = i.operands[-1] if a_type != "tf32" else "0"
    in_registers = a.startswith("{")
    # the signs of both; then, of 16-bit types, which way A (where it is described) and B lie
    rest = i.operands[4 : len(i.operands) - (0 if a_type == "tf32" else 1)]
    if len(d) != int(shape.group(1)) // 2 or rest[:2] != ["1", "1"] or (len(rest) > 2 and rest[2] != "0"):
        raise _Unknown
    return (
        f"{_P}wgmma<{'true' if in_registers else 'false'}>({kind}, {across}, {shape.group(1)}, static_cast<bool>({add}), "
        f"{_P}accumulators({', '.join(d)}), ::warploom::emulator::Site{{__builtin_FILE(), __builtin_LINE()}}, {b}, "
        f"{', '.join(i.vector(1)) if in_registers else a});"
    )


def _cp_async(i: _Instruction) -> str:
    p = i.parts
    if "bulk" in p:
        return _bulk(i)
    if "mbarrier" in p:
        raise _Unknown
    if "commit_group" in p:
        return "::warploom::emulator::async_commit();"
    if "wait_group" in p:
        return f"::warploom::emulator::async_wait({i.operands[0]});"
    if "wait_all" in p:
        return "::warploom::emulator::async_commit(); ::warploom::emulator::async_wait(0);"
    source = i.operands[3] if len(i.operands) > 3 else i.operands[2]
    to, of = f"{_P}shared_pointer<char, 1>({i.address(0)})", f"{_P}global_pointer<char, 1>({i.address(1)})"
    return f"::warploom::emulator::async_copy({to}, {of}, {i.operands[2]}, static_cast<int>({source}));"


def _barrier(i: _Instruction) -> str:
    if "sync" not in i.parts or len(i.operands) != 1 or i.operands[0] != "0":
        raise _Unknown
    return "__syncthreads();"


def _shuffle(i: _Instruction) -> str:
    kind = next((x for x in i.parts if x in ("up", "down", "bfly", "idx")), "")
    if i.parts[-1] != "b32" or "|" in i.operands[0] or not kind:
        raise _Unknown
    name = {"up": "up_", "down": "down_", "bfly": "xor_", "idx": ""}[kind]
    width = f"{_P}segment({i.operands[3]})"
    return _put(i.operands[0], f"__shfl_{name}sync({i.operands[4]}, {i.value(1, 'u32')}, {i.operands[2]}, {width})")


def _vote(i: _Instruction) -> str:
    if "ballot" in i.parts:
        return _put(i.operands[0], f"__ballot_sync({i.operands[2]}, {i.operands[1]})")
    raise _Unknown


def _cvta(i: _Instruction) -> str:
    if "shared" in i.parts and "to" in i.parts:
        return _put(i.operands[0], f"::warploom::lab::shared_address(reinterpret_cast<const void*>({i.value(1, 'u64')}))")
    if "shared" in i.parts:
        return _put(
            i.operands[0], f"reinterpret_cast<uint64_t>(::warploom::lab::shared_pointer(static_cast<uint32_t>({i.operands[1]})))"
        )
    return _put(i.operands[0], i.value(1, "u64"))


def _nothing(_: _Instruction) -> str:
    return ""


def _fence(i: _Instruction) -> str:
    if "proxy" in i.parts or "mbarrier_init" in i.parts:
        return "::warploom::emulator::fence_async_proxy();" if {"async", "mbarrier_init"} & set(i.parts) else ""
    return "::warploom::emulator::fence();"


_KNOWN: dict[str, Callable[[_Instruction], str]] = {
    **dict.fromkeys([*_UNARY, *_BINARY, "mad", "fma", "setp", "selp", "lop3", "prmt", "bfe", "bfi"], _arithmetic),
    "mov": _mov,
    "cvt": _cvt,
    "cvta": _cvta,
    "ld": _load_store,
    "ldu": _load_store,
    "st": _load_store,
    "atom": _atomic,
    "red": _atomic,
    "ldmatrix": _ldmatrix,
    "mma": _mma,
    "cp": _cp_async,
    "bar": _barrier,
    "barrier": _barrier,
    "shfl": _shuffle,
    "vote": _vote,
    "membar": lambda _: "::warploom::emulator::fence();",
    "fence": _fence,
    "mbarrier": _mbarrier,
    "wgmma": _wgmma,
    "setmaxnreg": _nothing,
    "bra": lambda i: f"goto wl_l_{i.operands[0]};",
    "nanosleep": lambda _: "::warploom::emulator::nap();",
    "trap": lambda _: "__trap();",
    "prefetch": _nothing,
    "prefetchu": _nothing,
    "discard": _nothing,
    "griddepcontrol": _nothing,
    "pragma": _nothing,
}


def _split(text: str) -> list[str]:
    """At commas outside of brackets."""
    parts, depth, now = [], 0, ""
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(now.strip())
            now = ""
        else:
            now += c
    return [*parts, now.strip()] if now.strip() else parts


def translate(template: str, operands: list[str], names: dict[str, int]) -> str:
    """C++ statements of a template; LookupError with the instruction's text where it is not modelled."""
    template = re.sub(r"/\*.*?\*/|//[^\n]*", " ", template, flags=re.DOTALL)
    body, declared, labels = "", "", list[str]()
    registers: dict[str, str] = {}
    placeholder = "\x00{}\x00"

    def operand(m: re.Match[str]) -> str:
        if m.group(1):
            return placeholder.format(names[m.group(1)])
        return placeholder.format(int(m.group(2)))

    template = re.sub(r"%\[(\w+)\]|%(\d+)", operand, template).replace("%%", "%")
    text = template
    while text.strip():
        text = text.strip()
        if text[0] in "{}" and not re.match(r"\{[^;]*\}\s*,", text):
            text = text[1:]
            continue
        if label := re.match(r"([A-Za-z_$][\w$]*)\s*:(?!:)", text):
            labels.append(label.group(1))
            body += f"wl_l_{label.group(1)}:; "
            text = text[label.end() :]
            continue
        statement, _, text = text.partition(";")
        statement = " ".join(statement.split())
        if not statement:
            continue
        shown = re.sub(r"\x00(\d+)\x00", r"%\1", statement)
        try:
            if m := re.match(r"\.reg\s+\.(\w+)\s+(.*)", statement):
                for name in _split(m.group(2)):
                    registers[name] = _TYPES[m.group(1)]
                    declared += f"{_TYPES[m.group(1)]} wl_r_{re.sub(r'[^a-zA-Z0-9]', '_', name)}{{}}; "
                continue
            guard = re.match(r"@(!?)(\S+)\s+(.*)", statement)
            condition = ""
            if guard:
                condition, statement = f"if ({guard.group(1)}{guard.group(2)}) ", guard.group(3)
            mnemonic, _, rest = statement.partition(" ")
            instruction = _Instruction(mnemonic.replace("::", "__").split("."), _split(rest))
            instruction.parts = [p.replace("__", "::") for p in instruction.parts]
            for k, value in enumerate(instruction.operands):
                for name in registers:
                    value = re.sub(rf"(?<![\w%$.]){re.escape(name)}(?![\w])", f"wl_r_{re.sub(r'[^a-zA-Z0-9]', '_', name)}", value)
                value = re.sub(r"%([a-z_0-9]+(?:\.[xyz])?)", lambda m: _SPECIAL[m.group(1)], value)
                value = re.sub(r"\b0[fF]([0-9a-fA-F]{8})\b", r"::warploom::lab::ptx::as<float>(0x\1u)", value)
                instruction.operands[k] = value
            for name in registers:
                condition = re.sub(
                    rf"(?<![\w%$.]){re.escape(name)}(?![\w])", f"wl_r_{re.sub(r'[^a-zA-Z0-9]', '_', name)}", condition
                )
            made = _KNOWN[instruction.parts[0]](instruction)
        except (_Unknown, KeyError, ValueError, IndexError, StopIteration, TypeError) as e:
            raise LookupError(shown) from e
        body += (condition + "{ " + made + " } ") if condition else made + " "
    own = f"__label__ {', '.join('wl_l_' + x for x in labels)}; " if labels else ""
    return re.sub(r"\x00(\d+)\x00", lambda m: f"({operands[int(m.group(1))]})", own + declared + body)


def rewrite(tokens: list[Token], index: int, path: str) -> None:
    """Replaces the asm statement at `index`.

    Raises:
        Refusal: for an instruction that is not modelled, with its text and line.
    """
    opening = solid(tokens, index + 1)
    while opening < len(tokens) and tokens[opening].text in ("volatile", "__volatile__", "goto", "inline"):
        opening = solid(tokens, opening + 1)
    if opening >= len(tokens) or tokens[opening].text != "(":
        return
    last = closing(tokens, opening)
    if last is None:
        return
    sections: list[list[Token]] = [[]]
    depth = 0
    for token in tokens[opening + 1 : last]:
        if token.kind in ("comment",):
            continue
        if token.kind == "sign":
            depth += (token.text in "([{") - (token.text in ")]}")
            if token.text == ":" and depth == 0:
                sections.append([])
                continue
        sections[-1].append(token)
    line = tokens[index].line
    pieces = [t for t in sections[0] if t.kind != "space"]
    if not pieces or any(t.kind != "string" for t in pieces):
        raise Refusal(path, line, "the text of this asm statement is not a plain string")
    template = ""
    for piece in pieces:
        template += (
            piece.text[piece.text.index("(") + 1 : -2] if piece.text.startswith("R") else str(ast.literal_eval(piece.text))
        )
    if not re.search(r"\b[a-z]\w*\.[a-z]|\btrap\b|\.reg\b", template):
        return  # not PTX: the host's own
    operands: list[str] = []
    names: dict[str, int] = {}
    for section in sections[1:3]:
        at = 0
        while at < len(section):
            token = section[at]
            if token.text == "[" and at + 1 < len(section):
                names[section[at + 1].text] = len(operands)
                at += 3
                continue
            if token.kind == "string":
                start = solid(section, at + 1)
                end = closing(section, start)
                if end is None:
                    raise Refusal(path, line, "cannot read the operands of this asm statement")
                operands.append(" ".join(text_of(section[start + 1 : end]).replace("\\\n", " ").split()))
                at = end
            at += 1
    try:
        body = translate(template, operands, names)
    except LookupError as e:
        raise Refusal(path, line, f"inline PTX `{e}` is not modelled") from None
    for token in tokens[index : last + 1]:
        token.blank()
        if token.kind == "sign":
            token.text = ""
    tokens[index].text = f"do {{ {body}}} while (0)"
