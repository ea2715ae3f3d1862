"""Pickles of other programs, read without running what they say.

A pickle may call any function it names, and ask for any amount of memory. Here only the instructions that a kind of file needs
are carried out, so many of them at most; every name but those it allows is refused, and those stand for harmless records of what
was asked for. It is the interpreter's unpickler written in Python, whose memo is a dictionary: the one written in C makes room
for 2^28 entries where a file of nine bytes says so.
"""

import pickle
from collections.abc import Mapping
from typing import IO, Any, ClassVar

_MOST_STEPS = 1_000_000  # instructions; an official CIFAR-10 file has some 50,000, the state dict of a large network as many


class _Steps(dict[int, Any]):
    """The instructions that are carried out, by their code; each look-up counts."""

    def __init__(self, known: dict[int, Any], names: str, file: str) -> None:
        codes = [getattr(pickle, name)[0] for name in names.split()]
        super().__init__({code: known[code] for code in codes})
        self.done, self.file = 0, file

    def __getitem__(self, code: int) -> Any:
        self.done += 1
        if self.done > _MOST_STEPS:
            raise pickle.UnpicklingError(f"more than {_MOST_STEPS:,} instructions")
        if code not in self:
            raise pickle.UnpicklingError(f"it holds the instruction {bytes([code])!r}, which no {self.file} has")
        return super().__getitem__(code)


class Restricted(pickle._Unpickler):
    """An unpickler of one kind of file. load() raises UnpicklingError, or whatever damaged bytes lead to: callers take all."""

    file: ClassVar[str] = "file"  # what it is called in messages
    steps: ClassVar[str] = ""  # the names of the instructions that it may hold
    stack: list[Any]

    def __init__(self, content: IO[bytes], allowed: Mapping[tuple[str, str], Any], states: tuple[type, ...]) -> None:
        """allowed: what stands for (module, name). states: the types of records that may be given a state."""
        super().__init__(content, encoding="bytes")
        self._allowed, self._states = allowed, states
        known = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: type(self)._build}
        self.dispatch = _Steps(known, self.steps, self.file)  # type: ignore[misc]  # of this file alone

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no {self.file} holds")
        return self._allowed[module, name]

    def _build(self) -> None:
        """State for the records only: given to a function it would stay there for the next file."""
        state = self.stack.pop()
        if type(self.stack[-1]) not in self._states:
            raise pickle.UnpicklingError("it gives a state to what has none")
        self.stack[-1].__setstate__(state)
