"""What a compiled CUDA file (a cubin, which is an ELF file) says of its kernels. Needs neither a GPU nor the toolkit."""

import struct
from dataclasses import dataclass

from warploom._core import demangle

__all__ = ["SYSTEM_SHARED", "CubinError", "Entry", "Parameter", "demangle", "entries"]

_MAX_THREADS, _PARAMETER, _REGISTERS, _FRAME = 0x05, 0x17, 0x2F, 0x11  # attributes of the .nv.info sections
_HAS_VALUE = 4  # their form: a length and that many bytes follow
_ENTRY = 0x10  # in a symbol's st_other: a kernel, not a device function
SYSTEM_SHARED = 1024  # from sm_90 on every block gives up so much shared memory to the system, and the section counts it


class CubinError(ValueError):
    """The bytes are no cubin, or are cut short."""


@dataclass(frozen=True)
class Parameter:
    """One argument of a kernel, as it lies in the parameter buffer."""

    offset: int
    size: int


@dataclass(frozen=True)
class Entry:
    """One kernel of a cubin."""

    symbol: str
    registers: int
    stack_bytes: int  # local memory: spills, and arrays that are not in registers
    shared_bytes: int  # static
    max_threads: int  # from __launch_bounds__; 0: not stated
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int


def entries(cubin: bytes) -> list[Entry]:
    """Every kernel in the file."""
    try:
        return _entries(cubin)
    except (struct.error, IndexError, ValueError) as error:
        raise CubinError(f"these {len(cubin)} bytes are no whole cubin ({error}); compile one with nvcc -cubin") from None


def _entries(cubin: bytes) -> list[Entry]:
    if cubin[:5] != b"\x7fELF\x02":
        raise ValueError("not a 64-bit ELF file")
    sections = _sections(cubin)
    by_name = {s.name: s for s in sections}
    symbols = _symbols(cubin, by_name[".symtab"], sections) if ".symtab" in by_name else []
    registers: dict[str, int] = {}
    stack: dict[str, int] = {}
    for attribute, value in _attributes(cubin, by_name.get(".nv.info")):
        if attribute in (_REGISTERS, _FRAME):
            index, number = struct.unpack("<II", value)
            (registers if attribute == _REGISTERS else stack)[symbols[index][0]] = number
    found = []
    for name, other in symbols:
        if not other & _ENTRY or f".text.{name}" not in by_name:
            continue
        threads, parameters = 0, []
        for attribute, value in _attributes(cubin, by_name.get(f".nv.info.{name}")):
            if attribute == _MAX_THREADS:
                x, y, z = struct.unpack("<III", value)
                threads = x * y * z
            elif attribute == _PARAMETER:
                _, ordinal, offset, flags = struct.unpack("<IHHI", value)
                parameters.append((ordinal, Parameter(offset, flags >> 18)))
        shared = by_name.get(f".nv.shared.{name}")
        size = shared.size if shared else 0
        ordered = tuple(p for _, p in sorted(parameters, key=lambda pair: pair[0]))
        found.append(Entry(name, registers.get(name, 0), stack.get(name, 0), size, threads, ordered))
    return found


def _sections(cubin: bytes) -> list[_Section]:
    start = struct.unpack_from("<Q", cubin, 0x28)[0]
    size, count, names_index = struct.unpack_from("<HHH", cubin, 0x3A)
    rows = [struct.unpack_from("<IIQQQQI", cubin, start + i * size) for i in range(count)]
    names = rows[names_index][4]
    return [_Section(_text(cubin, names + r[0]), r[1], r[2], r[4], r[5], r[6]) for r in rows]


def _text(cubin: bytes, at: int) -> str:
    return cubin[at : cubin.index(b"\0", at)].decode()


def _symbols(cubin: bytes, table: _Section, sections: list[_Section]) -> list[tuple[str, int]]:
    """(name, st_other) of every symbol."""
    names = sections[table.link].offset
    rows = struct.iter_unpack("<IBBHQQ", cubin[table.offset : table.offset + table.size])
    return [(_text(cubin, names + name), other) for name, _info, other, *_ in rows]


def _attributes(cubin: bytes, section: _Section | None) -> list[tuple[int, bytes]]:
    found = []
    at, end = (section.offset, section.offset + section.size) if section else (0, 0)
    while at + 4 <= end:
        form, attribute, length = struct.unpack_from("<BBH", cubin, at)
        if form == _HAS_VALUE:
            found.append((attribute, cubin[at + 4 : at + 4 + length]))
        at += 4 + (length if form == _HAS_VALUE else 0)
    return found
