"""The exceptions a user can catch, all of them kinds of Error. Those of the C++ core are passed on under their own names.

Each is also the built-in exception that Python has for its kind (ValueError, TypeError, RuntimeError)."""

from warploom._core import DeviceError, Error, GraphError, KernelFault, OutOfMemoryError, UnsupportedError

__all__ = [
    "USER_ERRORS",
    "ArgumentError",
    "DTypeError",
    "DataError",
    "DeviceError",
    "DivergedError",
    "Error",
    "FallbackWarning",
    "GraphError",
    "KernelFault",
    "OutOfMemoryError",
    "StateError",
    "UnsupportedError",
]


_LONGEST = 2000  # characters of a sentence


class ArgumentError(Error, ValueError):
    """An argument has a wrong value or an array a wrong shape.

    Its sentence often repeats what a file says. What would not print there, a new line or a code that commands a terminal, is
    shown as Python writes it in a string, so that it stays one line and says nothing else. Of more than 2,000 characters the
    middle is left out.
    """

    def __init__(self, sentence: str) -> None:
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in sentence)
        super().__init__(shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 501]}…{shown[-500:]}")


class DTypeError(ArgumentError, TypeError):
    """An array has the wrong type of element, or something is not an array at all."""


class DataError(ArgumentError):
    """A data set or a file is missing, cut short, damaged or holds values that cannot be trained on."""


class StateError(Error, RuntimeError):
    """A call came too early, such as fit() before compile()."""


class DivergedError(Error, RuntimeError):
    """The loss became infinite or NaN; the model holds the weights of the last epoch that was good."""


class FallbackWarning(UserWarning):
    """What was asked for is not there, and something else runs in its place."""


# What the command line turns into one sentence and exit code 2; anything else is a defect and keeps its traceback.
USER_ERRORS = (Error,)
